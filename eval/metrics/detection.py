"""All figures of a verification test at once, under the names that metrics.json has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from eval.metrics.cllr import cllr
from eval.metrics.dcf import OperatingPoint, actual_dcf, min_dcf
from eval.metrics.eer import convex_hull_eer, equal_error_rate, voxceleb_trainer_eer
from eval.metrics.hull import min_cllr
from eval.metrics.misses import FALSE_ACCEPTS, false_reject_at
from eval.metrics.rates import error_rates

UNITS = {
    "eer": "percent",
    "min_dcf": "normalised cost from 0 to 1",
    "frr_at_far": "percent, by percent of false accepts",
    "min_cllr": "bits",
}
_CALIBRATED_UNITS = {"actual_dcf": "normalised cost, 1 is that of a constant decision", "cllr": "bits"}

DEFINITIONS = {
    "eer": "where the polygon through the operating points, one a distinct score, crosses false accept = "
    "false reject (as NIST's scoring and wespeaker, tied scores apart)",
    "eer_convex_hull": "where the convex hull of the ROC crosses that line (BOSARIS)",
    "eer_voxceleb_trainer": "the larger rate of the ROC's corner where both are closest, not interpolated "
    "(tuneThresholdfromScore of the VoxCeleb trainer)",
    "min_dcf": "least cost over all thresholds, divided by that of the better constant decision (NIST SRE "
    "2016; the VoxCeleb trainer and wespeaker, tied scores apart)",
    "frr_at_far": "of the lowest threshold whose false accept rate is at most so much, not interpolated",
    "min_cllr": "Cllr after isotonic regression (pool adjacent violators) on this very list",
}
_CALIBRATED_DEFINITIONS = {
    "actual_dcf": "cost at the Bayes threshold log(c_fa (1 - p_target) / (c_miss p_target)), divided as "
    "min_dcf",
    "cllr": "Brümmer & du Preez 2006, of the calibrated scores",
}


def detection_metrics(
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    points: Sequence[OperatingPoint | float],
    *,
    calibrated: bool = False,
) -> dict[str, Any]:
    """The figures of `scores` (T,) with `labels` (T,), 1 and 0: plain values, ready for JSON.

    points: operating points for costs, a number being a p_target with costs of 1. calibrated: the scores
    are log-likelihood ratios (nats), so that actual_dcf and cllr mean something. Raises ValueError as
    error_rates does.

    eer, eer_convex_hull, eer_voxceleb_trainer and frr_at_far are in percent, min_cllr and cllr in bits;
    min_dcf, min_dcf_threshold and actual_dcf go by `OperatingPoint.name`, frr_at_far and its threshold by
    percent of false accepts; a threshold is None where rejecting everything is best. units and
    definitions say so in words.
    """
    rates = error_rates(scores, labels)
    wanted = as_points(points)
    eer, eer_threshold = equal_error_rate(rates)
    costs = {point.name: min_dcf(rates, point.p_target, point.c_miss, point.c_fa) for point in wanted}
    misses = {f"{100 * share:g}": false_reject_at(rates, share) for share in FALSE_ACCEPTS}
    found: dict[str, Any] = {
        "eer": 100.0 * eer,
        "eer_threshold": eer_threshold,
        "eer_convex_hull": 100.0 * convex_hull_eer(rates),
        "eer_voxceleb_trainer": 100.0 * voxceleb_trainer_eer(rates),
        "min_dcf": {name: cost for name, (cost, _) in costs.items()},
        "min_dcf_threshold": {name: _finite(threshold) for name, (_, threshold) in costs.items()},
        "frr_at_far": {name: 100.0 * rate for name, (rate, _) in misses.items()},
        "frr_at_far_threshold": {name: _finite(threshold) for name, (_, threshold) in misses.items()},
        "min_cllr": min_cllr(rates),
        "operating_points": {
            point.name: {"p_target": point.p_target, "c_miss": point.c_miss, "c_fa": point.c_fa}
            for point in wanted
        },
        "units": UNITS | (_CALIBRATED_UNITS if calibrated else {}),
        "definitions": DEFINITIONS | (_CALIBRATED_DEFINITIONS if calibrated else {}),
    }
    if calibrated:
        found["actual_dcf"] = {point.name: actual_dcf(rates, point) for point in wanted}
        found["cllr"] = cllr(scores, labels)
    return found


def as_points(points: Sequence[OperatingPoint | float]) -> list[OperatingPoint]:
    """Operating points, of which a number is a p_target."""
    return [point if isinstance(point, OperatingPoint) else OperatingPoint(point) for point in points]


def _finite(threshold: float) -> float | None:
    return threshold if math.isfinite(threshold) else None  # JSON has no infinity
