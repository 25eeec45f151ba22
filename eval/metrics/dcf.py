"""Detection costs: the least that a threshold could reach, and what the Bayes threshold does reach."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from eval.metrics.rates import ErrorRates


@dataclass(frozen=True)
class OperatingPoint:
    """How probable a target trial is, and what a miss and a false accept cost.

    Raises ValueError for p_target outside (0, 1), and costs that are not positive.
    """

    p_target: float
    c_miss: float = 1.0
    c_fa: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.p_target < 1.0:
            raise ValueError(f"p_target {self.p_target} is not between 0 and 1")
        for name in ("c_miss", "c_fa"):
            cost = getattr(self, name)
            if not (math.isfinite(cost) and cost > 0.0):
                raise ValueError(f"{name} {cost} is not a positive number")

    @property
    def name(self) -> str:
        """Its key in metrics.json: p_target alone where both costs are 1."""
        costs = (("c_miss", self.c_miss), ("c_fa", self.c_fa))
        return " ".join([f"{self.p_target:g}", *(f"{name}={cost:g}" for name, cost in costs if cost != 1.0)])

    @property
    def miss(self) -> float:
        """What missing every target trial costs."""
        return self.c_miss * self.p_target

    @property
    def accept(self) -> float:
        """What accepting every non-target trial costs."""
        return self.c_fa * (1.0 - self.p_target)

    @property
    def least(self) -> float:
        """The cost of the better of accepting and rejecting everything, by which costs are divided."""
        return min(self.miss, self.accept)

    @property
    def bayes_threshold(self) -> float:
        """The log-likelihood ratio (nats) from which accepting a trial costs less than rejecting it."""
        return math.log(self.accept / self.miss)


def min_dcf(
    rates: ErrorRates, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0
) -> tuple[float, float]:
    """(normalised minimum detection cost, its threshold); equations 2 to 4 of the NIST SRE 2016 plan.

    cost(t) = c_miss * p_target * false_reject(t) + c_fa * (1 - p_target) * false_accept(t), divided by
    the cost of the better of accepting and rejecting everything, so that it lies in [0, 1].
    The threshold is +inf where nothing beats rejecting everything. Of equal costs the
    lowest threshold is returned. Raises ValueError for p_target outside (0, 1).

    The VoxCeleb trainer and wespeaker find the same where no scores are tied: they take tied trials
    one by one, and do not consider accepting everything, which the division makes 1 or more.
    """
    point = OperatingPoint(p_target, c_miss, c_fa)
    cost = point.miss * rates.false_reject + point.accept * rates.false_accept
    best = int(np.argmin(cost))
    return float(cost[best] / point.least), float(rates.thresholds[best])


def actual_dcf(rates: ErrorRates, point: OperatingPoint) -> float:
    """Normalised detection cost at the Bayes threshold, of scores that are log-likelihood ratios (nats).

    As min_dcf, but for the threshold, which the scores' calibration has to make the right one; it may
    exceed 1. Section 3 of the NIST SRE 2016 plan.
    """
    accept, reject = rates.at(point.bayes_threshold)
    return (point.miss * reject + point.accept * accept) / point.least
