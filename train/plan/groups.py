"""Each speaker's utterances, in the epoch's random order, cut into groups of K."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools import philox
from shard_tools.arrays import Int64Array

# A sort key holds a speaker in its upper 24 bits and randomness in its lower 40.
_RANDOM_BITS = np.uint64(40)
MAX_SPEAKERS = 1 << 24


@dataclass(frozen=True)
class SpeakerUtterances:
    """Utterances sorted by speaker: row `first[s] + i` of `order` is the i-th of speaker s in this epoch."""

    order: Int64Array  # (utterances,)
    first: Int64Array  # (speakers,)


def groups_per_speaker(counts: Int64Array, size: int, at_most: int | None) -> Int64Array:
    """How many whole groups of `size` utterances each speaker offers an epoch; int64 (speakers,).

    `at_most` caps a speaker's utterances in an epoch (the VoxCeleb trainer's max_seg_per_spk).
    """
    usable = counts if at_most is None else np.minimum(counts, at_most)
    return usable // size


def shuffle_within_speakers(
    labels: npt.NDArray[np.integer],
    counts: Int64Array,
    seed: int,
    epoch: int,
    part: int = 0,
    purpose: str = "utterance order",
) -> SpeakerUtterances:
    """Shuffle every speaker's utterances among themselves.

    labels: (utterances,) speaker of each utterance, below 2**24; counts: (speakers,) utterances of
    each; part: which part of the epoch this is; purpose: what the order is for.
    """
    bits = philox.raw(seed, purpose, epoch, len(labels), part)
    keys = (labels.astype(np.uint64) << _RANDOM_BITS) | (bits >> (np.uint64(64) - _RANDOM_BITS))
    order = np.argsort(keys, kind="stable")
    return SpeakerUtterances(order, np.cumsum(counts) - counts)
