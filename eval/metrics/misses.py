"""The false reject rate that is left where false accepts are bounded."""

from __future__ import annotations

import numpy as np

from eval.metrics.rates import ErrorRates

FALSE_ACCEPTS = (0.01, 0.001, 0.0001)
"""The bounds of metrics.json, as fractions."""


def false_reject_at(rates: ErrorRates, false_accept: float) -> tuple[float, float]:
    """(false reject rate in [0, 1], threshold) of the lowest threshold with at most so many false accepts.

    An operating point of the list, without interpolation: with fewer than 1 / false_accept non-target
    trials it is the first without any false accept. The threshold is +inf where all must be rejected.
    """
    point = int(
        np.searchsorted(rates.counts()[1], rates.nontargets - allowed(false_accept, rates.nontargets))
    )
    return float(rates.false_reject[point]), float(rates.thresholds[point])


def allowed(false_accept: float, nontargets: float) -> int:
    """How many of the non-target trials may be accepted; the share is taken as written, not as rounded."""
    return int(false_accept * nontargets * (1.0 + 1e-12))
