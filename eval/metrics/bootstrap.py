"""Intervals of a test's figures, and a paired test of two systems, by drawing its speakers anew."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eval.metrics.dcf import OperatingPoint
from eval.metrics.detection import as_points
from eval.metrics.resampling import Resampled, multiplicities
from shard_tools.arrays import Float64Array, Int64Array

DRAWS, CONFIDENCE = 1000, 0.95
LEAST_DRAWS = 20  # fewer say nothing of where an interval ends
MOST_UNDEFINED = 0.05  # of the draws may lack a class of trials; with more, too few speakers were there
_DRAWN = (
    "over speakers drawn with replacement: a speaker's target trials count as often as it came up, a trial "
    "of two speakers the product of how often either did"
)
METHOD = f"bias-corrected percentiles {_DRAWN}"
PAIRED_METHOD = f"percentiles {_DRAWN}"


def bootstrap(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    sides: Int64Array | None,
    points: Sequence[OperatingPoint | float],
    *,
    calibrated: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    progress: bool = False,
) -> dict[str, Any]:
    """Intervals of the figures of detection_metrics (same arguments), as values ready for metrics.json.

    sides: int64 (T, 2), the number of the speaker on either side of each trial (`sides_of`), None where it
    is not known. draws: 2 or more; each is a pure function of (seed, its number).

    Returns {"intervals": {"eer": {"low": …, "high": …}, "min_dcf": {"0.05": {…}}, "frr_at_far": {…}} (of
    calibrated scores also actual_dcf and cllr), in the figures' units, "bootstrap": how they were made}.
    Where there can be none "intervals" is None and "bootstrap" has the reason. Raises ValueError as
    error_rates.
    """
    reason = _why_not(labels, sides)
    if reason is None:
        assert sides is not None
        one = Resampled(scores, labels, sides, as_points(points), calibrated=calibrated)
        drawn = np.array([one.figures(each) for each in _draws(one.speakers, draws, seed, progress)])
        defined = drawn[~np.isnan(drawn[:, 0])]
        reason = _too_few(len(defined), draws, one.speakers)
    if reason is not None:
        return {"intervals": None, "bootstrap": {"reason": reason}}
    low, high = bias_corrected(defined, one.figures(np.ones(one.speakers)), confidence)
    intervals: dict[str, Any] = {}
    for name, *ends in zip(one.names, low, high, strict=True):
        _put(intervals, name, _interval(*ends))
    return {"intervals": intervals, "bootstrap": _how(METHOD, len(defined), seed, confidence, one.speakers)}


def paired_test(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    labels: npt.ArrayLike,
    sides: Int64Array | None,
    points: Sequence[OperatingPoint | float],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    progress: bool = False,
) -> dict[str, Any]:
    """What the second system's figures are above the first's on the same trials, and whether by chance.

    first, second: their scores (T,), in the order of labels and sides, which are as in bootstrap. Every draw
    of speakers counts both systems' trials, so that what makes a list hard for both does not count.

    Returns {"differences": {"eer": {"difference", "low", "high", "p"}, "min_dcf": {"0.05": {…}}, …},
    "bootstrap": …}, second minus first, in the figures' units (EER in percent). p is two-sided: twice
    the share of draws whose difference is on the other side of 0 or is 0, one more draw counted (Davison &
    Hinkley 1997), so never below 2 / (draws + 1). Without speakers "differences" is None, and "bootstrap"
    has the reason.
    """
    reason = _why_not(labels, sides)
    if reason is None:
        assert sides is not None
        one, other = (Resampled(scores, labels, sides, as_points(points)) for scores in (first, second))
        drawn = np.array(
            [other.figures(each) - one.figures(each) for each in _draws(one.speakers, draws, seed, progress)]
        )
        defined = drawn[~np.isnan(drawn[:, 0])]
        reason = _too_few(len(defined), draws, one.speakers)
    if reason is not None:
        return {"differences": None, "bootstrap": {"reason": reason}}
    everyone = np.ones(one.speakers)
    found = other.figures(everyone) - one.figures(everyone)
    low, high = np.quantile(defined, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    differences: dict[str, Any] = {}
    for number, name in enumerate(one.names):
        value = {"difference": float(found[number]), **_interval(low[number], high[number])}
        _put(differences, name, {**value, "p": _two_sided(defined[:, number])})
    return {
        "differences": differences,
        "bootstrap": _how(PAIRED_METHOD, len(defined), seed, confidence, one.speakers),
    }


def sides_of(left: Int64Array, right: Int64Array, speakers: Int64Array | None) -> Int64Array | None:
    """The speakers of trials' sides, int64 (T, 2); None where speakers is None.

    left, right: int64 (T,), the utterances of each trial; speakers: int64 (utterances,), of each its number.
    """
    return None if speakers is None else np.stack((speakers[left], speakers[right]), axis=1)


def _why_not(labels: npt.ArrayLike, sides: Int64Array | None) -> str | None:
    """Why there can be no drawing of speakers, for people; None where it can."""
    if sides is None:
        return (
            "the speakers are not known: neither shards nor the first folder of every path names them, and "
            "trials, which share speakers, are not independent"
        )
    wrong = int(np.count_nonzero((sides[:, 0] == sides[:, 1]) != (np.asarray(labels) == 1)))
    if wrong:
        return (
            f"labels and speakers contradict each other in {wrong} of {len(sides)} trials: a target trial is "
            "of one speaker, another of two"
        )
    return None


def _too_few(defined: int, draws: int, speakers: int) -> str | None:
    if draws - defined <= MOST_UNDEFINED * draws and defined >= 2:
        return None
    return (
        f"{speakers} speakers are too few: {draws - defined} of {draws} draws of them lacked one class of "
        "trials"
    )


def _draws(speakers: int, draws: int, seed: int, progress: bool) -> Iterator[Int64Array]:
    for draw in tqdm(range(draws), desc="bootstrap", unit=" draws", disable=not progress):
        yield multiplicities(seed, draw, speakers)


def bias_corrected(
    drawn: Float64Array, found: Float64Array, confidence: float
) -> tuple[Float64Array, Float64Array]:
    """Ends (F,) of intervals, from the figures of draws (B, F) and those of the list itself (F,).

    Percentiles, moved by as much as the list's own figure lies off the draws' median (Efron 1981). A least
    cost needs that: its threshold is the best one of the very trials it is measured on, which makes it too
    low on a list, and once more in a draw of it.
    """
    from scipy.special import ndtr, ndtri  # slow to load, as in hull.py

    below = np.mean(drawn < found, axis=0) + 0.5 * np.mean(drawn == found, axis=0)
    bias = ndtri(np.clip(below, 0.5 / len(drawn), 1.0 - 0.5 / len(drawn)))
    ends = [ndtr(2.0 * bias + ndtri(0.5 + side * confidence / 2)) for side in (-1, 1)]
    low, high = (
        np.array([np.quantile(column, q) for column, q in zip(drawn.T, end, strict=True)]) for end in ends
    )
    return low, high


def _interval(low: float, high: float) -> dict[str, float]:
    return {"low": float(low), "high": float(high)}


def _two_sided(differences: Float64Array) -> float:
    above, below = int(np.count_nonzero(differences >= 0)), int(np.count_nonzero(differences <= 0))
    return min(1.0, 2.0 * (1 + min(above, below)) / (1 + len(differences)))


def _put(into: dict[str, Any], way: tuple[str, ...], value: Any) -> None:
    for name in way[:-1]:
        into = into.setdefault(name, {})
    into[way[-1]] = value


def _how(method: str, draws: int, seed: int, confidence: float, speakers: int) -> dict[str, Any]:
    return {"method": method, "confidence": confidence, "draws": draws, "seed": seed, "speakers": speakers}
