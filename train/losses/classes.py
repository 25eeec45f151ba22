"""Which of the classes a process has."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist

from models.options import ModelError


@dataclass(frozen=True)
class Classes:
    """Classes 0 to `total`, cut into `world` runs that differ by one at most; this process has run `rank`."""

    total: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.total < self.world:
            raise ModelError(
                f"loss.sharded is true, and {self.total} speakers cannot be shared by {self.world} "
                "processes: set loss.sharded false, or start fewer processes"
            )

    @property
    def first(self) -> int:
        return self.bounds(self.rank)[0]

    @property
    def count(self) -> int:
        """How many classes this process has."""
        first, last = self.bounds(self.rank)
        return last - first

    @property
    def shared(self) -> bool:
        """Whether other processes have some of them."""
        return self.world > 1

    def bounds(self, rank: int) -> tuple[int, int]:
        """The classes [first, last) of a rank."""
        return rank * self.total // self.world, (rank + 1) * self.total // self.world


def own_classes(total: int) -> Classes:
    """This process's share of the classes, as one of the process group's; all of them without a group."""
    if not dist.is_available() or not dist.is_initialized():
        return Classes(total)
    return Classes(total, dist.get_rank(), dist.get_world_size())
