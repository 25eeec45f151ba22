"""The errors that are furthest from the threshold."""

from __future__ import annotations

import numpy as np

from eval.trials import Trials
from shard_tools.arrays import Float64Array, Int64Array

WORST = 20


def worst_trials(scores: Float64Array, trials: Trials, threshold: float, label: int) -> Int64Array:
    """Up to WORST trials of kind `label` on the wrong side of `threshold`, the most wrong first.

    Label 0 gives false accepts (highest scores first), label 1 false rejects (lowest first).
    """
    wrong = np.flatnonzero((trials.label == label) & ((scores >= threshold) == (label == 0)))
    order = np.argsort(scores[wrong] if label else -scores[wrong], kind="stable")
    return wrong[order[:WORST]]
