"""From scores to log-likelihood ratios: fitted on a held-out list, kept in a file, applied to others."""

from eval.calibration.calibration import Calibration, fit_calibration, load_calibration
from eval.calibration.quality import CohortStatistics, Quality, measure

__all__ = ["Calibration", "CohortStatistics", "Quality", "fit_calibration", "load_calibration", "measure"]
