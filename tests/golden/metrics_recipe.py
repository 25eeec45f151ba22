"""The scores behind the golden metrics, as formulas: nothing but what others make of them is stored.

Uniform numbers come from Philox4x32-10 (shard_tools.philox), as in golden_recipe.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import ndtri

from shard_tools.philox import uniform

FILE = Path(__file__).parent / "metrics.json"
_SEED = 20

LISTS = {
    "even": (4000, 0.5, 2.5, None),
    "few_targets": (6000, 0.02, 3.0, None),
    "many_targets": (3000, 0.9, 2.0, None),
    "hardly_parted": (2000, 0.3, 0.3, None),
    "easy": (5000, 0.4, 5.5, None),
    "tied": (5000, 0.4, 2.5, 1),
}
"""Lists of scores: name → (trials, share of target trials, distance of the classes, decimals or None)."""

POINTS = ((0.05, 1.0, 1.0), (0.01, 1.0, 1.0), (0.001, 1.0, 1.0), (0.01, 10.0, 1.0), (0.5, 1.0, 2.0))
"""Operating points: p_target, c_miss, c_fa."""

QUALITY_TRIALS = 600
MAX_SECONDS = 20.0


def scores(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores float64 (T,) and labels int64 (T,)."""
    trials, share, distance, decimals = LISTS[name]
    n = np.arange(trials)
    labels = (uniform(_SEED, f"{name}/label", 0, n) < share).astype(np.int64)
    values = ndtri(uniform(_SEED, f"{name}/score", 0, n)) + distance * labels
    return (values if decimals is None else np.round(values, decimals)), labels


def quality_list() -> dict[str, np.ndarray]:
    """A list with sides: score and label (T,); seconds, magnitude, cohort (T, 2), to 4 decimals."""
    n = np.arange(QUALITY_TRIALS)

    def draw(name: str, slot: int) -> np.ndarray:
        return uniform(_SEED, f"quality/{name}", 0, n, slot)

    def sides(name: str, low: float, high: float) -> np.ndarray:
        return np.round(low + (high - low) * np.stack((draw(name, 0), draw(name, 1)), axis=1), 4)

    label = (draw("label", 0) < 0.4).astype(np.int64)
    seconds, magnitude, cohort = (
        sides("seconds", 2, 26),
        sides("magnitude", 8, 16),
        sides("cohort", 0.05, 0.2),
    )
    likeness = ndtri(draw("score", 0)) / np.log(seconds).mean(axis=1) + 1.2 * label + 4 * cohort.mean(axis=1)
    score = np.round(likeness, 5)
    return {"score": score, "label": label, "seconds": seconds, "magnitude": magnitude, "cohort": cohort}


def four(sides: np.ndarray) -> np.ndarray:
    """wespeaker's columns of a measure (T, 2): smaller, larger, difference, and quotient as it prints it."""
    low, high = sides.min(axis=1), sides.max(axis=1)
    return np.stack((low, high, np.round(high - low, 4), [float(f"{q:.4f}") for q in high / low]), axis=1)


def quality_columns() -> np.ndarray:
    """What wespeaker's calibration is fitted on: score, then four of duration, magnitude, cohort (T, 13)."""
    listed = quality_list()
    capped = np.minimum(listed["seconds"], MAX_SECONDS)
    parts = (listed["score"][:, None], four(capped), four(listed["magnitude"]), four(listed["cohort"]))
    return np.concatenate(parts, axis=1)
