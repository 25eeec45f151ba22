"""Which shards a node needs when: an epoch's shards in random order, dealt to lanes, in windows.

A lane is a share of every global batch that reads shards of its own. A node that
carries some of the lanes needs only their shards, a window of them at a time; the
global batch is made of all lanes and is the same however they are carried.
"""

from __future__ import annotations

from dataclasses import dataclass

from shard_tools import philox
from shard_tools.arrays import Int64Array


@dataclass(frozen=True)
class Windows:
    """How an epoch walks over the shards: `lanes` lanes side by side, `width` shards of each at a time."""

    shards: int
    lanes: int
    width: int
    seed: int

    @property
    def per_epoch(self) -> int:
        """Windows in an epoch; the last may hold fewer shards, and not the same number in every lane."""
        rounds = -(-self.shards // self.lanes)
        return -(-rounds // self.width)

    def of(self, epoch: int, window: int) -> list[Int64Array]:
        """The shards of each lane in a window of an epoch; every shard is in one window of one lane."""
        order = philox.permutation(self.seed, "shard order", epoch, self.shards)
        first = window * self.width
        return [order[lane :: self.lanes][first : first + self.width] for lane in range(self.lanes)]
