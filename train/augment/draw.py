"""What happens to each sample: drawn for a whole batch at once, keyed by (seed, epoch, n) alone.

The recipe is that of Kwon et al., "The ins and outs of speaker recognition",
ICASSP 2021, as the VoxCeleb trainer has it: one of five treatments per crop. A
sixth, "chained", is reverberation and then one of the additive three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools import philox

KINDS = ("none", "reverberation", "music", "babble", "noise", "chained")
ADDITIVE = ("music", "babble", "noise")
SOURCES = ("reverberation", *ADDITIVE)


@dataclass(frozen=True)
class Recipe:
    """Weights and ranges of the treatments, and how many recordings each source offers.

    weights: relative, by kind (missing = 0); snr: dB range by additive kind; clips: how many
    recordings are added, by additive kind; recordings: how many there are, by source.
    What is added to chained rows is chosen by the additive kinds' weights, evenly where all are 0.
    """

    weights: dict[str, float]
    snr: dict[str, tuple[float, float]]
    clips: dict[str, tuple[int, int]]
    recordings: dict[str, int]

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Probability of each of KINDS, float64 (6,)."""
        return _normalised([self.weights.get(kind, 0.0) for kind in KINDS])

    def added_when_chained(self) -> npt.NDArray[np.float64]:
        """Probability of each of ADDITIVE in a chained row, float64 (3,)."""
        weights = [self.weights.get(kind, 0.0) for kind in ADDITIVE]
        return _normalised(weights if any(weights) else [float(kind in self.recordings) for kind in ADDITIVE])


def _normalised(weights: list[float]) -> npt.NDArray[np.float64]:
    total = sum(weights)
    return np.array(weights, dtype=np.float64) / (total if total else 1.0)


@dataclass(frozen=True)
class Clips:
    """The recordings that one kind uses in a batch, one row each."""

    row: npt.NDArray[np.int64]  # row of the batch that it treats, ascending
    recording: npt.NDArray[np.int64]  # number within the source
    position: npt.NDArray[np.float64]  # where its crop starts, as a fraction of the room there is, [0, 1)
    snr: npt.NDArray[np.float64]  # dB; 0 for reverberation


@dataclass(frozen=True)
class Draws:
    """The treatments of a batch."""

    kind: npt.NDArray[np.int64]  # (rows,) index into KINDS
    clips: dict[str, Clips]  # by source; a chained row has reverberation and one of the others


def draw(recipe: Recipe, seed: int, epoch: int, n: npt.NDArray[np.int64]) -> Draws:
    """The treatments of the samples `n` (rows,) of an epoch; no row depends on another."""
    kind = _choose(recipe.probabilities(), philox.uniform(seed, "augment kind", epoch, n))
    added = _choose(recipe.added_when_chained(), philox.uniform(seed, "chained kind", epoch, n))
    chained = kind == KINDS.index("chained")
    clips = {}
    for name in SOURCES:
        own = kind == KINDS.index(name)
        own |= chained & (True if name == "reverberation" else added == ADDITIVE.index(name))
        clips[name] = _clips(recipe, name, seed, epoch, n, np.flatnonzero(own))
    return Draws(kind, clips)


def _choose(probabilities: npt.NDArray[np.float64], share: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """The choice that each uniform number in [0, 1) falls on."""
    edges = np.cumsum(probabilities)
    edges[edges == edges[-1]] = 1.0  # rounding must not leave a gap above
    return np.searchsorted(edges, share, side="right")


def _clips(
    recipe: Recipe, kind: str, seed: int, epoch: int, n: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> Clips:
    chosen = n[rows]
    low, high = recipe.clips.get(kind, (1, 1))
    if not len(rows):
        empty = np.empty(0)
        return Clips(rows, rows, empty, empty)
    slots = np.arange(high)
    count = low + philox.integers(seed, f"{kind} clips", epoch, chosen, high - low + 1)
    recording = _distinct(recipe.recordings[kind], slots, f"{kind} recording", seed, epoch, chosen)
    position = philox.uniform(seed, f"{kind} position", epoch, chosen[:, None], slots)
    lowest, highest = recipe.snr.get(kind, (0.0, 0.0))
    share = np.zeros_like(position)
    if highest > lowest:
        share = philox.uniform(seed, f"{kind} snr", epoch, chosen[:, None], slots)
    used = slots < count[:, None]
    return Clips(
        row=np.repeat(rows, count),
        recording=recording[used],
        position=position[used],
        snr=(lowest + share * (highest - lowest))[used],
    )


def _distinct(
    available: int,
    slots: npt.NDArray[np.int64],
    purpose: str,
    seed: int,
    epoch: int,
    n: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """Different numbers below `available` in the slots of each sample; int64 (len(n), len(slots)).

    The i-th is drawn among the available - i that are left, and stepped over the earlier ones.
    """
    picks = philox.integers(seed, purpose, epoch, n[:, None], available - slots, slots)
    for slot in slots[1:]:
        pick = picks[:, slot]
        for earlier in np.sort(picks[:, :slot], axis=1).T:
            pick += pick >= earlier
    return picks
