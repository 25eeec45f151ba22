"""What one epoch leaves out comes first in the next, by arithmetic of the epoch's number alone.

Of the groups that speakers could give to an epoch of T batches of P, min(groups, T) each, some are
too many: they cannot fill a batch more. They stand in one fixed order, in which every speaker's
turns are spread evenly, and the epochs leave them out in that order, one after another, round and
round. So every epoch is offered exactly P*T groups, at most T of a speaker, which is what can be
spread over T batches without loss; and how many a speaker has offered before an epoch follows from
how far the order has gone.

A speaker's utterances, too, have one fixed order, and an epoch takes as many as it needs from where
the epoch before it ended, round and round: what was over max_utterances_per_speaker, too few for a
group or in a group left out is next.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shard_tools import philox
from shard_tools.arrays import Int64Array
from train.plan.groups import shuffle_within_speakers


class Rollover:
    """Which groups and utterances each epoch is offered.

    labels: (utterances,) speaker of each; counts, groups: int64 (speakers,), utterances of each speaker
    and the groups of `size` that it can give to an epoch; batches, share: batches of an epoch, and
    speakers of a batch, so that sum(min(groups, batches)) >= batches * share.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.integer],
        counts: Int64Array,
        groups: Int64Array,
        size: int,
        batches: int,
        share: int,
        seed: int,
    ) -> None:
        self._labels = labels
        self._counts = counts
        self._size = size
        able = np.minimum(groups, batches)
        self._able = able
        self._all = int(able.sum())
        self._out = self._all - batches * share
        self._order = EvenOrder(able, seed)
        # The place of every utterance among its speaker's own, the same in all epochs.
        own = shuffle_within_speakers(labels, counts, seed, 0, purpose="lasting order")
        turn = np.arange(len(labels), dtype=np.int32)
        turn -= np.repeat(own.first.astype(np.int32), counts)
        self._turn = np.empty_like(turn)
        self._turn[own.order] = turn

    def groups_before(self, epoch: int) -> Int64Array:
        """Groups that each speaker gives to all epochs before this one; int64 (speakers,)."""
        rounds, turns = divmod(epoch * self._out, self._all)
        return (epoch - rounds) * self._able - self._order.among_first(turns)

    def groups(self, epoch: int) -> Int64Array:
        """Groups that each speaker gives to this epoch; int64 (speakers,)."""
        return self.groups_before(epoch + 1) - self.groups_before(epoch)

    def utterances(self, epoch: int) -> Int64Array:
        """The utterances of this epoch, ascending: `size` for each group; int64."""
        begin = self.groups_before(epoch) * self._size % np.maximum(self._counts, 1)
        taken = self.groups(epoch) * self._size
        # How far behind `begin` an utterance stands, all in 32 bits: there may be very many.
        behind = self._turn - begin.astype(np.int32)[self._labels]
        behind += np.where(behind < 0, self._counts.astype(np.int32)[self._labels], np.int32(0))
        return np.flatnonzero(behind < taken.astype(np.int32)[self._labels])


class EvenOrder:
    """A fixed order of sum(turns) turns, turns[s] of speaker s, in which every speaker's are spread evenly.

    Among the first m of them a speaker has about m * turns[s] / sum(turns), off by about one at most.
    The order is never written down: m is halved between the two sides of a tree of the speakers, by
    their turns and to the nearest whole number, down to the single ones. Each side's part of m never
    falls as m grows, nor rises by more than one, and so this counts the beginnings of one order.
    Speakers of like many turns lie together, so that sides are of like weight and errors fade; which
    of equals comes first depends on the seed.
    """

    def __init__(self, turns: Int64Array, seed: int) -> None:
        width = 1 << (len(turns) - 1).bit_length()
        self._speaker = np.lexsort((philox.raw(seed, "order left out", 0, len(turns)), turns))
        leaves = np.zeros(width, dtype=np.int64)
        leaves[: len(turns)] = turns[self._speaker]
        self._levels = [leaves]  # the turns below each node of the tree, from the leaves to the root
        while len(self._levels[-1]) > 1:
            self._levels.append(self._levels[-1].reshape(-1, 2).sum(axis=1))

    def among_first(self, m: int) -> Int64Array:
        """How many of the first m turns are each speaker's; int64 (speakers,); m up to sum(turns)."""
        part = np.array([m], dtype=np.int64)
        for parent, child in zip(self._levels[:0:-1], self._levels[-2::-1], strict=True):
            left = (part * child[::2] + parent // 2) // np.maximum(parent, 1)
            part = np.stack([left, part - left], axis=1).reshape(-1)
        count = np.empty_like(self._speaker)
        count[self._speaker] = part[: len(count)]
        return count
