"""The equal error rate by the three definitions that papers use, each under a name of its own."""

from __future__ import annotations

import numpy as np

from eval.metrics.hull import convex_hull
from eval.metrics.rates import ErrorRates


def equal_error_rate(rates: ErrorRates) -> tuple[float, float]:
    """(equal error rate in [0, 1], threshold), by linear interpolation.

    The ROC is taken as the polygon through the operating points, and the rate is
    read where it crosses false accept = false reject; the threshold is interpolated
    between the same two points. NIST's scoring and wespeaker's `compute_eer` do the
    same where no scores are tied (they take tied trials one by one).
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


def convex_hull_eer(rates: ErrorRates) -> float:
    """Equal error rate in [0, 1] of the ROC's convex hull (BOSARIS, Brümmer & de Villiers 2011).

    What a threshold chosen at random between two of the hull's points reaches; never above the
    interpolated rate.
    """
    return equal_error_rate(convex_hull(rates))[0]


def voxceleb_trainer_eer(rates: ErrorRates) -> float:
    """Equal error rate in [0, 1] as the VoxCeleb trainer (Chung et al. 2020) reports it.

    Of the corners of the ROC, the larger rate of the one where both rates are closest, without
    interpolation; of equally close ones that of the highest threshold. The corners are those that
    scikit-learn's `roc_curve` keeps: an operating point is dropped where the curve goes on in equal
    steps, and where everything is rejected is always one.
    """
    rejected, falsely = rates.counts()
    accepted = (rates.targets - rejected[:-1])[::-1]  # by falling threshold, without the last point
    false = (rates.nontargets - falsely[:-1])[::-1]
    straight = (np.diff(accepted, 2) == 0) & (np.diff(false, 2) == 0)
    kept = np.concatenate(([True], ~straight, [True])) if len(accepted) > 2 else np.ones(len(accepted), bool)
    # Divided and subtracted in the trainer's own order, on which the choice among equals depends.
    accept = np.concatenate(([0.0], false[kept] / rates.nontargets))
    reject = 1.0 - np.concatenate(([0.0], accepted[kept] / rates.targets))
    closest = int(np.argmin(np.abs(reject - accept)))
    return float(max(reject[closest], accept[closest]))
