"""How well an epoch's order mixes what was packed together; every measure beside that of a full shuffle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from shard_tools import philox
from shard_tools.arrays import Int32Array, Int64Array

BLOCK = 1000  # samples among which distinct speakers are counted
_SPEAKERS_COUNTED = 2000  # all pairs of more would take long


@dataclass(frozen=True)
class Mixing:
    """apart: mean distance in the epoch between utterances that are neighbours in a shard, in
    thirds of an epoch: 1 in a full shuffle, near 0 when shards are read one after the other.

    speakers: distinct speakers in 1,000 consecutive samples, mean.

    meetings: of two speakers who are in one batch, how many other batches of the epoch they share,
    mean over all such encounters; None when there is no pair of speakers.
    """

    apart: float
    speakers: float
    meetings: float | None


def mixing(
    utterance: Int64Array,
    label: Int64Array,
    shard: Int32Array,
    utterances_per_speaker: int,
) -> Mixing:
    """Of an epoch. utterance, label: (batches, P*K); shard: (N,), where each row of the catalogue lies."""
    speakers = label[:, ::utterances_per_speaker]
    return Mixing(
        apart(utterance.reshape(-1), shard),
        speakers_in_block(label.reshape(-1)),
        other_meetings(speakers),
    )


def apart(order: Int64Array, shard: Int32Array) -> float:
    """order: (samples,), the epoch's utterances as they come. Pairs with one left out do not count."""
    place = np.full(len(shard), -1, np.int64)
    place[order] = np.arange(len(order))
    both = (place[1:] >= 0) & (place[:-1] >= 0) & (shard[1:] == shard[:-1])
    if not both.any():
        return 0.0
    distance = np.abs(np.diff(place))[both].mean()
    # of two places out of M drawn at random: (M + 1) / 3
    return float(3 * distance / (len(order) + 1))


def speakers_in_block(label: Int64Array) -> float:
    """label: (samples,) in the epoch's order; an epoch shorter than a block counts as one."""
    blocks = max(len(label) // BLOCK, 1)
    label = label[: blocks * BLOCK]
    block = np.arange(len(label)) // BLOCK
    return len(np.unique(block * (int(label.max()) + 1) + label)) / blocks


def other_meetings(speakers: Int64Array) -> float | None:
    """speakers: (batches, P), distinct in each row. Of many speakers, 2,000 at random are looked at."""
    present = np.unique(speakers)
    if len(present) > _SPEAKERS_COUNTED:
        chosen = philox.permutation(0, "speakers counted", 0, len(present))[:_SPEAKERS_COUNTED]
        present = present[np.sort(chosen)]
    place = np.searchsorted(present, speakers)
    place[place == len(present)] = 0
    batch, column = np.nonzero(present[place] == speakers)
    ones = np.ones(len(batch))
    shape = (len(speakers), len(present))
    seen = sparse.csr_array((ones, (batch, place[batch, column])), shape=shape)
    met = sparse.triu(seen.T @ seen, k=1).data
    return float((met * (met - 1)).sum() / met.sum()) if len(met) else None
