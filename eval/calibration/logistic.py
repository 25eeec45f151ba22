"""Prior-weighted logistic regression: the affine map that makes of columns log-likelihood ratios."""

from __future__ import annotations

import math

import numpy as np

from shard_tools.arrays import Float64Array, Int64Array

_STEPS, _HALVINGS = 100, 40
_SMALL = 1e-20  # of the objective, what another step could still gain


class Inseparable(ValueError):
    """There is no best map: some map parts the classes without error, and every steeper one is better."""


def fit_logistic(columns: Float64Array, labels: Int64Array, prior: float = 0.5) -> tuple[Float64Array, float]:
    """(weights (C,), offset) for which columns @ weights + offset are log-likelihood ratios (nats).

    columns: float64 (T, C), none of them constant; labels: (T,), 1 and 0, both there; prior: of a target
    trial, in (0, 1), by which the classes are weighted whatever their share of the trials.

    The least of prior · mean over target trials of log(1 + exp(-l)) + (1 - prior) · mean over the others of
    log(1 + exp(l)), l = llr + logit(prior): Brümmer & du Preez 2006; with prior 0.5 it is log(2) · Cllr, the
    objective of wespeaker's calibration too, which stops on the way. Newton's method with halved
    steps; where columns depend on each other, the ratios are still the best ones. Raises Inseparable.
    """
    middle, spread = columns.mean(axis=0), columns.std(axis=0)
    design = np.column_stack(((columns - middle) / spread, np.ones(len(columns))))
    is_target = labels == 1
    sign = np.where(is_target, 1.0, -1.0)
    share = np.where(
        is_target, prior / np.count_nonzero(is_target), (1.0 - prior) / np.count_nonzero(~is_target)
    )
    shift = math.log(prior / (1.0 - prior))
    theta = np.zeros(design.shape[1])
    theta[-1] = -shift
    loss = _loss(design @ theta + shift, sign, share)
    for _ in range(_STEPS):
        odds = design @ theta + shift
        if np.any(theta[:-1]) and odds[is_target].min() >= odds[~is_target].max():
            raise Inseparable("the classes part without error")
        wrong = np.exp(-np.logaddexp(0.0, sign * odds))  # the probability given to the wrong class
        slope = design.T @ (-sign * share * wrong)
        bend = (design.T * (share * wrong * (1.0 - wrong))) @ design
        step = -np.linalg.lstsq(bend, slope, rcond=1e-13)[0]
        gain = -float(slope @ step)
        if gain <= _SMALL:
            weights = theta[:-1] / spread
            return weights, float(theta[-1] - weights @ middle)
        for _ in range(_HALVINGS):
            tried = _loss(design @ (theta + step) + shift, sign, share)
            if tried <= loss - 1e-4 * gain or gain <= 1e-13:  # there rounding decides about losses
                break
            step, gain = step / 2, gain / 2
        theta, loss = theta + step, tried
    raise Inseparable(f"no least cost was found in {_STEPS} steps")


def _loss(odds: Float64Array, sign: Float64Array, share: Float64Array) -> float:
    return float(share @ np.logaddexp(0.0, -sign * odds))
