"""The convex hull of the ROC, by the pool-adjacent-violators algorithm; and the least Cllr."""

from __future__ import annotations

import numpy as np

from eval.metrics.rates import ErrorRates


def convex_hull(rates: ErrorRates) -> ErrorRates:
    """The operating points at the corners of the ROC's convex hull, the two ends among them.

    Isotonic regression of the labels on the scores pools the trials between two corners (Fawcett &
    Niculescu-Mizil 2007, "PAV and the ROC convex hull").
    """
    from scipy.optimize import isotonic_regression  # slow to load, and few programs come here

    rejected, falsely = rates.counts()
    targets, nontargets = np.diff(rejected), np.diff(falsely)
    trials = targets + nontargets
    return rates.among(isotonic_regression(targets / trials, weights=trials).blocks.astype(np.int64))


def min_cllr(rates: ErrorRates) -> float:
    """The Cllr (bits) that no monotone map of the scores to log-likelihood ratios can better.

    Brümmer & du Preez 2006: the ratio of a pool of trials is that of the shares of target and non-target
    trials in it. 0 where the classes part, 1 where the scores say nothing.
    """
    hull = convex_hull(rates)
    rejected, falsely = hull.counts()
    targets = np.diff(rejected) / hull.targets
    nontargets = np.diff(falsely) / hull.nontargets
    both = (targets > 0) & (nontargets > 0)  # a pool of one class costs nothing
    t, n = targets[both], nontargets[both]
    return float(0.5 * (t @ np.log2(1.0 + n / t) + n @ np.log2(1.0 + t / n)))
