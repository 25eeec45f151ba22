"""This process among the others of the job, and the few collectives that training needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from eval.devices import device_of, join_group
from shard_tools.launched import launched

# Long enough for rank 0 to write a checkpoint to a slow store while the others wait in an all-reduce.
TIMEOUT = timedelta(minutes=10)
_OPTION = "train.device"


Item = TypeVar("Item")


@dataclass(frozen=True)
class Process:
    rank: int
    world: int
    device: torch.device
    on_node: int = 1  # processes of the job on this node

    @property
    def leads(self) -> bool:
        """Rank 0 writes logs and checkpoints."""
        return self.rank == 0


@contextmanager
def process_group(device: str) -> Iterator[Process]:
    """Join the group that torchrun's environment describes, or stand alone without one.

    device: auto, cpu or cuda. NCCL serves GPUs, gloo CPUs. Raises UserError when cuda is
    asked for in vain, and for an environment that describes no job.
    """
    place = launched()
    if place is None:
        yield Process(0, 1, device_of(device, option=_OPTION))
        return
    chosen = join_group(place, device, TIMEOUT, option=_OPTION)
    yield Process(dist.get_rank(), dist.get_world_size(), chosen, place.on_node)
    # Not after a failure: it could wait for the others, who wait for this rank.
    dist.destroy_process_group()


def mean_over_ranks(values: list[float], device: torch.device) -> list[float]:
    """The mean over ranks of each value."""
    if not dist.is_initialized():
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(value) / dist.get_world_size() for value in total.cpu()]


def from_all(value: Item) -> list[Item]:
    """What each rank has, by rank; anything that can be pickled."""
    if not dist.is_initialized():
        return [value]
    box: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(box, value)
    return box


def from_lead(text: str | None) -> str | None:
    """Rank 0's text, on every rank."""
    if not dist.is_initialized():
        return text
    box = [text]
    dist.broadcast_object_list(box, src=0)
    return box[0]
