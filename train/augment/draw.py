"""What happens to each sample: drawn for a whole batch at once, keyed by (seed, epoch, n) alone.

The recipe is that of Kwon et al., "The ins and outs of speaker recognition",
ICASSP 2021, as the VoxCeleb trainer has it: one of five treatments per crop. A
sixth, "chained", is reverberation and then one of the additive three. Besides, any of them may be heard
over a telephone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools import philox
from shard_tools.arrays import Float64Array, Int64Array
from train.augment.telephone import LAWS

KINDS = ("none", "reverberation", "music", "babble", "noise", "chained")
ADDITIVE = ("music", "babble", "noise")
SOURCES = ("reverberation", *ADDITIVE)


@dataclass(frozen=True)
class Recipe:
    """Weights and ranges of the treatments, and how many recordings each source offers.

    weights: relative, by kind (missing = 0); snr: dB range by additive kind; clips: how many
    recordings are added, by additive kind; recordings: how many there are, by source.
    What is added to chained rows is chosen by the additive kinds' weights, evenly where all are 0.
    telephone: the probability that a row, whatever its kind, goes over a line; laws: one of these, evenly.
    """

    weights: dict[str, float]
    snr: dict[str, tuple[float, float]]
    clips: dict[str, tuple[int, int]]
    recordings: dict[str, int]
    telephone: float = 0.0
    laws: tuple[str, ...] = LAWS

    def probabilities(self) -> Float64Array:
        """Probability of each of KINDS, float64 (6,)."""
        return _normalised([self.weights.get(kind, 0.0) for kind in KINDS])

    def added_when_chained(self) -> Float64Array:
        """Probability of each of ADDITIVE in a chained row, float64 (3,)."""
        weights = [self.weights.get(kind, 0.0) for kind in ADDITIVE]
        return _normalised(weights if any(weights) else [float(kind in self.recordings) for kind in ADDITIVE])


def _normalised(weights: list[float]) -> Float64Array:
    total = sum(weights)
    return np.array(weights, dtype=np.float64) / (total if total else 1.0)


@dataclass(frozen=True)
class Clips:
    """The recordings that one kind uses in a batch, one row each."""

    row: Int64Array  # row of the batch that it treats, ascending
    recording: Int64Array  # number within the source
    position: Float64Array  # where its crop starts, as a fraction of the room there is, [0, 1)
    snr: Float64Array  # dB; 0 for reverberation


@dataclass(frozen=True)
class Calls:
    """The rows of a batch that go over a telephone line."""

    row: Int64Array  # ascending
    law: Int64Array  # number in telephone.LAWS


_NO_CALLS = Calls(np.empty(0, np.int64), np.empty(0, np.int64))
_NO_CLIPS = Clips(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0), np.empty(0))


@dataclass(frozen=True)
class Draws:
    """The treatments of a batch."""

    kind: Int64Array  # (rows,) index into KINDS
    clips: dict[str, Clips]  # by source; a chained row has reverberation and one of the others
    calls: Calls = _NO_CALLS


def draw(recipe: Recipe, seed: int, epoch: int, n: Int64Array) -> Draws:
    """The treatments of the samples `n` (rows,) of an epoch; no row depends on another."""
    kind_share, added_share = philox.uniform_several(
        seed, epoch, [("augment kind", n, 0), ("chained kind", n, 0)]
    )
    kind = _choose(recipe.probabilities(), kind_share)
    added = _choose(recipe.added_when_chained(), added_share)
    chained = kind == KINDS.index("chained")
    rows = {}
    for name in SOURCES:
        own = kind == KINDS.index(name)
        own |= chained & (True if name == "reverberation" else added == ADDITIVE.index(name))
        rows[name] = np.flatnonzero(own)
    used = [name for name in SOURCES if len(rows[name])]
    wanted = [one for name in used for one in _wanted(recipe, name, n[rows[name]])]
    shares = iter(philox.uniform_several(seed, epoch, wanted))
    clips = dict.fromkeys(SOURCES, _NO_CLIPS)
    clips.update({name: _clips(recipe, name, rows[name], shares) for name in used})
    return Draws(kind, clips, _calls(recipe, seed, epoch, n))


def _calls(recipe: Recipe, seed: int, epoch: int, n: Int64Array) -> Calls:
    if not recipe.telephone:
        return _NO_CALLS
    share, law_share = philox.uniform_several(seed, epoch, [("telephone", n, 0), ("telephone law", n, 0)])
    row = np.flatnonzero(share < recipe.telephone)
    numbers = np.array([LAWS.index(law) for law in recipe.laws])
    return Calls(row, numbers[philox.scaled(law_share[row], len(numbers))])


def _choose(probabilities: Float64Array, share: Float64Array) -> Int64Array:
    """The choice that each uniform number in [0, 1) falls on."""
    edges = np.cumsum(probabilities)
    edges[edges == edges[-1]] = 1.0  # rounding must not leave a gap above
    return np.searchsorted(edges, share, side="right")


def _wanted(recipe: Recipe, kind: str, n: Int64Array) -> list[tuple[str, Int64Array, npt.ArrayLike]]:
    """The uniform numbers that `_clips` takes for a kind's samples n: four arrays, by purpose."""
    slots = np.arange(recipe.clips.get(kind, (1, 1))[1])
    each = n[:, None]
    return [
        (f"{kind} clips", n, 0),
        (f"{kind} recording", each, slots),
        (f"{kind} position", each, slots),
        (f"{kind} snr", each, slots),
    ]


def _clips(recipe: Recipe, kind: str, rows: Int64Array, shares: Iterator[Float64Array]) -> Clips:
    """The clips of a kind's rows, made of the next four of the shares that `_wanted` asked for."""
    count_share, recording_share, position, snr_share = (next(shares) for _ in range(4))
    low, high = recipe.clips.get(kind, (1, 1))
    slots = np.arange(high)
    count = low + philox.scaled(count_share, high - low + 1)
    recording = _distinct(recipe.recordings[kind], recording_share)
    lowest, highest = recipe.snr.get(kind, (0.0, 0.0))
    used = slots < count[:, None]
    return Clips(
        row=np.repeat(rows, count),
        recording=recording[used],
        position=position[used],
        snr=(lowest + snr_share * (highest - lowest))[used],
    )


def _distinct(available: int, share: Float64Array) -> Int64Array:
    """Different numbers below `available` in the slots of each sample; share, int64: (samples, slots).

    The i-th is drawn among the available - i that are left, and stepped over the earlier ones.
    """
    slots = np.arange(share.shape[1])
    picks = philox.scaled(share, available - slots)
    for slot in slots[1:]:
        pick = picks[:, slot]
        for earlier in np.sort(picks[:, :slot], axis=1).T:
            pick += pick >= earlier
    return picks
