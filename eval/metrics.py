"""Error rates of a verification test, from scores and labels alone.

A threshold t accepts the trials with score >= t. Tied scores can only be
accepted together, so there is one operating point per distinct score, and one
more that rejects everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Float64Array


@dataclass(frozen=True)
class ErrorRates:
    """All operating points of a test, by rising threshold; three float64 arrays (P,).

    `thresholds` are the distinct scores and, last, +inf (which rejects everything);
    `false_accept` falls from 1 to 0 and `false_reject` rises from 0 to 1, both as
    fractions of the non-target and of the target trials.
    """

    thresholds: Float64Array
    false_accept: Float64Array
    false_reject: Float64Array

    def at(self, threshold: float) -> tuple[float, float]:
        """(false accept, false reject) as fractions when scores >= `threshold` are accepted."""
        point = int(np.searchsorted(self.thresholds, threshold, side="left"))
        return float(self.false_accept[point]), float(self.false_reject[point])


def error_rates(scores: npt.ArrayLike, labels: npt.ArrayLike) -> ErrorRates:
    """Every operating point of `scores` (T,) with `labels` (T,), 1 for target trials and 0 for the others.

    Raises ValueError for arrays that do not match, labels other than 0 and 1, only
    one class of trials, or scores that are not finite. One sort, so a million
    trials take a fraction of a second.
    """
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"scores {score.shape} and labels {label.shape} must be two vectors of one length")
    if not np.isfinite(score).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(score))} of {len(score)} scores are not finite")
    if not np.isin(label, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    targets = int(np.count_nonzero(label))
    nontargets = len(label) - targets
    if targets == 0 or nontargets == 0:
        raise ValueError(f"error rates need both classes; got {targets} target and {nontargets} other trials")

    order = np.argsort(score, kind="stable")
    score = score[order]
    first = np.flatnonzero(np.concatenate(([True], score[1:] != score[:-1])))  # first trial of each tie
    below = np.concatenate((first, [len(score)]))  # trials that each threshold rejects
    targets_below = np.concatenate(([0], np.cumsum(label[order] != 0)))[below]
    nontargets_below = below - targets_below
    return ErrorRates(
        thresholds=np.concatenate((score[first], [np.inf])),
        false_accept=(nontargets - nontargets_below) / nontargets,
        false_reject=targets_below / targets,
    )


def equal_error_rate(rates: ErrorRates) -> tuple[float, float]:
    """(equal error rate in [0, 1], threshold), by linear interpolation.

    The ROC is taken as the polygon through the operating points, and the rate is
    read where it crosses false accept = false reject; the threshold is interpolated
    between the same two points. The VoxCeleb trainer (Chung et al. 2020) does not
    interpolate: it takes the operating point where the two rates are closest, and
    reports the larger of them, which is never below the value returned here.
    """
    gap = rates.false_reject - rates.false_accept  # rises strictly from -1 to 1
    above = int(np.searchsorted(gap, 0.0, side="left"))
    below = above - 1
    part = -gap[below] / (gap[above] - gap[below])
    rate = rates.false_reject[below] + part * (rates.false_reject[above] - rates.false_reject[below])
    low, high = rates.thresholds[below], rates.thresholds[above]
    # The last point has no finite threshold: only the highest score divides what is left.
    threshold = low + part * (high - low) if np.isfinite(high) else low
    return float(rate), float(threshold)


def min_dcf(
    rates: ErrorRates, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> tuple[float, float]:
    """(normalised minimum detection cost, its threshold); equations 2 to 4 of the NIST SRE 2016 plan.

    cost(t) = c_miss * p_target * false_reject(t) + c_fa * (1 - p_target) * false_accept(t), divided by
    the cost of the better of accepting and rejecting everything, so that it lies in [0, 1].
    The threshold is +inf where nothing beats rejecting everything. Of equal costs the
    lowest threshold is returned. Raises ValueError for p_target outside (0, 1).
    """
    if not 0.0 < p_target < 1.0:
        raise ValueError(f"p_target {p_target} is not between 0 and 1")
    miss, accept = c_miss * p_target, c_fa * (1.0 - p_target)
    cost = miss * rates.false_reject + accept * rates.false_accept
    best = int(np.argmin(cost))
    return float(cost[best] / min(miss, accept)), float(rates.thresholds[best])
