"""How good scores are as log-likelihood ratios, whatever the threshold."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from eval.metrics.rates import checked
from shard_tools.arrays import Float64Array, Int64Array


def cllr(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The cost Cllr (bits) of log-likelihood ratios (nats) (T,): Brümmer & du Preez 2006, equation 17.

    0 is perfect, 1 is what ratios of 1 throughout give, and there is no upper bound. Raises ValueError
    as error_rates does.
    """
    score, label = checked(scores, labels)
    bits = bits_lost(score, label)
    return float(0.5 * (bits[label == 1].mean() + bits[label == 0].mean()))


def bits_lost(score: Float64Array, label: Int64Array) -> Float64Array:
    """What each trial adds to its class's mean: log2(1 + exp(-llr)) of a target trial, of others exp(llr)."""
    return np.logaddexp(0.0, np.where(label == 1, -score, score)) / math.log(2.0)
