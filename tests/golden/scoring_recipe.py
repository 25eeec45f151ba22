"""Embeddings for the golden scores of wespeaker and SpeechBrain (make_scoring.py), as formulas."""

from __future__ import annotations

import numpy as np
from golden_recipe import FOLDER, draw

__all__ = ["FOLDER", "TOP", "cohort", "plda_trials", "training", "trial_embeddings", "trials"]

TOP = 11  # of the cohort, for AS-norm
_DIMENSIONS, _PLDA_DIMENSIONS, _SPEAKERS = 16, 6, 40


def trial_embeddings() -> np.ndarray:
    """float32 (12, 16)."""
    return draw("scoring trials", 12, _DIMENSIONS).numpy() + draw("scoring shift", 1, _DIMENSIONS).numpy()


def cohort() -> np.ndarray:
    """float32 (40, 16)."""
    return draw("scoring cohort", 40, _DIMENSIONS).numpy() + draw("scoring shift", 1, _DIMENSIONS).numpy()


def trials() -> np.ndarray:
    """Rows of trial_embeddings, int64 (T, 2): all pairs of the first six with the others."""
    return np.array([(left, right) for left in range(6) for right in range(6, 12)])


def training() -> tuple[np.ndarray, np.ndarray]:
    """float32 (utterances, 6), correlated and of unequal spread, and speakers, int64: 3 to 9 of each."""
    labels = np.repeat(np.arange(_SPEAKERS), 3 + np.arange(_SPEAKERS) % 7)
    spread = np.linspace(0.5, 2.0, _PLDA_DIMENSIONS, dtype=np.float32)
    speakers = draw("plda speakers", _SPEAKERS, _PLDA_DIMENSIONS).numpy() * spread
    mixing = draw("plda mixing", _PLDA_DIMENSIONS, _PLDA_DIMENSIONS).numpy()
    utterances = draw("plda utterances", len(labels), _PLDA_DIMENSIONS).numpy() @ mixing
    return (speakers[labels] + 0.6 * utterances + 0.5).astype(np.float32), labels


def plda_trials() -> tuple[np.ndarray, np.ndarray]:
    """Both sides of trials of all pairs, float32 (5, 6) and (7, 6)."""
    return tuple(
        1.5 * draw(f"plda {side}", n, _PLDA_DIMENSIONS).numpy() for side, n in (("left", 5), ("right", 7))
    )
