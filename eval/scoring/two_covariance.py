"""The two-covariance model: a vector is a speaker's, plus what this utterance adds, both Gaussian.

    x = mean + y + e,   y ~ N(0, between) once a speaker,   e ~ N(0, within) once an utterance

Source: Brümmer and de Villiers, The speaker partitioning problem, Odyssey 2010. It is what PLDA without a
subspace is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from eval.scoring.training import Scatter
from shard_tools.arrays import Float64Array


@dataclass(frozen=True, eq=False)
class TwoCovariance:
    """mean (D,); matrix (D, D): (x − mean) @ matrix has the identity within speakers, and diag(psi) between.

    psi: float64 (D,), highest first, not negative.
    """

    mean: Float64Array
    matrix: Float64Array
    psi: Float64Array

    @property
    def between(self) -> Float64Array:
        """(D, D), in the space of the embeddings."""
        back = np.linalg.inv(self.matrix)
        return (back.T * self.psi) @ back

    @property
    def within(self) -> Float64Array:
        back = np.linalg.inv(self.matrix)
        return back.T @ back


def two_covariance(mean: Float64Array, between: Float64Array, within: Float64Array) -> TwoCovariance:
    """From the covariances themselves; `within` must not be singular."""
    psi, axes = scipy.linalg.eigh(between, within)
    return TwoCovariance(mean, np.ascontiguousarray(axes[:, ::-1]), np.maximum(psi[::-1], 0.0))


def expectation_maximisation(
    found: Scatter, within: Float64Array, between: Float64Array, iterations: int
) -> TwoCovariance:
    """The likeliest model of a training set, approached from `within` and `between`.

    Each iteration also scales the speakers' part freely before it is made a covariance again (parameter
    expansion: Liu, Rubin and Wu, Biometrika 1998), which takes far fewer of them.
    """
    total = int(found.counts.sum())
    model = two_covariance(found.mean, between, within)
    for _ in range(iterations):
        sums = found.sums @ model.matrix  # (S, D), where the identity is within and diag(psi) between
        scattered = model.matrix.T @ found.total @ model.matrix
        counts = found.counts[:, None]
        variance = model.psi / (1.0 + counts * model.psi)  # of each speaker's part, once heard
        expected = variance * sums
        second = np.diag(variance.mean(axis=0)) + expected.T @ expected / len(sums)
        weighted = np.diag((counts * variance).sum(axis=0)) + expected.T @ (counts * expected)
        across = sums.T @ expected
        # Least squares, as axes without any variance between speakers have nothing to scale.
        scale = np.linalg.lstsq(weighted, across.T, rcond=None)[0].T
        left = (scattered - scale @ across.T) / total
        made = two_covariance(np.zeros_like(found.mean), _even(scale @ second @ scale.T), _even(left))
        model = TwoCovariance(found.mean, model.matrix @ made.matrix, made.psi)
    return model


def _even(matrix: Float64Array) -> Float64Array:
    """Symmetric to the last bit."""
    return (matrix + matrix.T) / 2.0
