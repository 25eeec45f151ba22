"""Figures of a verification or identification test, from scores, labels and speakers."""

from eval.metrics.cllr import cllr
from eval.metrics.dcf import OperatingPoint, actual_dcf, min_dcf
from eval.metrics.detection import detection_metrics
from eval.metrics.eer import convex_hull_eer, equal_error_rate, voxceleb_trainer_eer
from eval.metrics.hull import convex_hull, min_cllr
from eval.metrics.misses import false_reject_at
from eval.metrics.rates import ErrorRates, error_rates

__all__ = [
    "ErrorRates",
    "OperatingPoint",
    "actual_dcf",
    "cllr",
    "convex_hull",
    "convex_hull_eer",
    "detection_metrics",
    "equal_error_rate",
    "error_rates",
    "false_reject_at",
    "min_cllr",
    "min_dcf",
    "voxceleb_trainer_eer",
]
