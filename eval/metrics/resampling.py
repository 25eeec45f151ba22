"""The figures of a test whose speakers are drawn anew, thousands of times: sorted once, counted by weights.

A trial has two speakers, so trials are not independent: those that share a speaker rise and fall
together, and drawing trials anew gives intervals that are too narrow. What a test samples are
speakers. S of S speakers are drawn with replacement; one that came up m times stands for m speakers who
sound alike. Each has the target trials of its own, so these count m times; a trial between speakers that
came up m and n times counts m n times; and between the copies of one speaker there are no trials, as the
list has none of a speaker against somebody with the same voice. It is the vertex bootstrap of Snijders &
Borgatti 1999 without the redrawn diagonal, for pairs of utterances what Poh, Martin & Bengio 2007 do to
users, and the subset bootstrap of Bolle, Ratha & Pankanti 2004 taken on both sides of a trial.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from eval.metrics.cllr import bits_lost
from eval.metrics.dcf import OperatingPoint
from eval.metrics.misses import FALSE_ACCEPTS, allowed
from eval.metrics.rates import checked, first_of_ties
from shard_tools import philox
from shard_tools.arrays import Float64Array, Int64Array


def multiplicities(seed: int, draw: int, speakers: int) -> Int64Array:
    """How often each of so many speakers comes up in a draw, int64 (speakers,) with that sum.

    A pure function of its arguments.
    """
    words = philox.raw(seed, "speaker bootstrap", draw, speakers)
    share = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.bincount(philox.scaled(share, speakers), minlength=speakers)


class Resampled:
    """A test's trials by rising score, ready to be counted with any multiplicities of its speakers.

    scores, labels: as in error_rates, (T,); sides: int64 (T, 2), a number for the speaker on either side
    of each trial, whose `speakers` are counted by rising number; points: operating points for costs;
    calibrated: scores are log-likelihood ratios.
    `names` are those of the figures: each the way to a value of detection_metrics.
    """

    def __init__(
        self,
        scores: npt.ArrayLike,
        labels: npt.ArrayLike,
        sides: Int64Array,
        points: Sequence[OperatingPoint],
        *,
        calibrated: bool = False,
    ) -> None:
        score, label = checked(scores, labels)
        if sides.shape != (len(score), 2):
            raise ValueError(f"sides {sides.shape} must be the two speakers of {len(score)} trials")
        known, sides = np.unique(sides, return_inverse=True)  # numbers without gaps
        sides = sides.reshape(-1, 2)
        self.speakers = len(known)
        order = np.argsort(score, kind="stable")
        score, label, sides = score[order], label[order], sides[order]
        alone = sides[:, 0] == sides[:, 1]
        self._left = np.ascontiguousarray(sides[:, 0])
        # Behind the speakers' own multiplicities stands a 1, for trials that have but one speaker.
        self._right = np.where(alone, self.speakers, sides[:, 1])
        self._is_target = label.astype(np.float64)
        first = first_of_ties(score)
        self._below = None if len(first) == len(score) else np.concatenate((first, [len(score)]))
        self._points = list(points)
        self._calibrated = calibrated
        self._bits = bits_lost(score, label) if calibrated else None
        distinct = score[first]
        self._bayes = [int(np.searchsorted(distinct, point.bayes_threshold)) for point in points]
        self._weight, self._target = np.empty_like(score), np.empty_like(score)
        self._rejected, self._falsely = np.zeros(len(score) + 1), np.zeros(len(score) + 1)
        self._cost, self._other = np.empty(len(first) + 1), np.empty(len(first) + 1)
        self.names: list[tuple[str, ...]] = [("eer",)]
        self.names += [("min_dcf", point.name) for point in self._points]
        self.names += [("frr_at_far", f"{100 * share:g}") for share in FALSE_ACCEPTS]
        if calibrated:
            self.names += [("actual_dcf", point.name) for point in self._points] + [("cllr",)]

    def figures(self, multiplicity: npt.ArrayLike) -> Float64Array:
        """The figures of `names`, float64, where speaker s counts multiplicity[s] times (speakers,).

        NaN where no trial of one class is left. Counts are whole numbers in float64, hence exact.
        """
        counts = np.append(np.asarray(multiplicity, np.float64), 1.0)
        weight, target = self._weight, self._target
        np.take(counts, self._left, out=weight, mode="clip")
        np.take(counts, self._right, out=target, mode="clip")
        weight *= target
        np.multiply(weight, self._is_target, out=target)
        weight -= target  # of non-target trials from here on
        rejected, falsely = self._rejected, self._falsely
        np.cumsum(target, out=rejected[1:])
        np.cumsum(weight, out=falsely[1:])
        targets, nontargets = rejected[-1], falsely[-1]
        if not (targets and nontargets):
            return np.full(len(self.names), np.nan)
        if self._below is not None:
            rejected, falsely = rejected[self._below], falsely[self._below]
        found = [100.0 * _crossing(rejected, falsely)]
        found += [self._min_dcf(point, rejected, falsely) for point in self._points]
        for share in FALSE_ACCEPTS:
            place = int(np.searchsorted(falsely, nontargets - allowed(share, nontargets)))
            found.append(100.0 * rejected[place] / targets)
        if self._bits is not None:
            for point, place in zip(self._points, self._bayes, strict=True):
                miss, accept = rejected[place] / targets, 1.0 - falsely[place] / nontargets
                found.append((point.miss * miss + point.accept * accept) / point.least)
            found.append(0.5 * (self._bits @ target / targets + self._bits @ weight / nontargets))
        return np.array(found)

    def _min_dcf(self, point: OperatingPoint, rejected: Float64Array, falsely: Float64Array) -> float:
        np.multiply(rejected, point.miss / rejected[-1], out=self._cost)
        np.multiply(falsely, point.accept / falsely[-1], out=self._other)
        np.subtract(self._cost, self._other, out=self._cost)
        return float((point.accept + self._cost.min()) / point.least)


def _crossing(rejected: Float64Array, falsely: Float64Array) -> float:
    """The equal error rate, as equal_error_rate finds it, of counts (P,) rejected at each operating point."""
    targets, nontargets = rejected[-1], falsely[-1]

    def gap(point: int) -> float:
        return float(rejected[point] / targets - (1.0 - falsely[point] / nontargets))

    above = bisect_left(range(len(rejected)), 0.0, key=gap)
    below = above - 1
    part = -gap(below) / (gap(above) - gap(below))
    low, high = rejected[below] / targets, rejected[above] / targets
    return float(low + part * (high - low))
