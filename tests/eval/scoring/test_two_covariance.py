from __future__ import annotations

import numpy as np
import pytest
from scoring_recipe import FOLDER, training

from eval.scoring.training import scatter
from eval.scoring.two_covariance import expectation_maximisation, two_covariance


@pytest.fixture(scope="module")
def found():
    vectors, labels = training()
    vectors = vectors.astype(np.float64)
    return scatter([(slice(0, len(vectors)), vectors)], labels, vectors.mean(axis=0))


def likelihood(found, model):
    """Of the training set, by the covariance of each speaker's mean and of what is left."""
    total = 0.0
    within, between = model.within, model.between
    for count, summed in zip(found.counts, found.sums, strict=True):
        covariance = between + within / count
        mean = summed / count
        total -= 0.5 * (np.linalg.slogdet(covariance)[1] + mean @ np.linalg.solve(covariance, mean))
    free = found.counts.sum() - len(found.counts)
    left = np.trace(np.linalg.solve(within, found.within))
    return total - 0.5 * (free * np.linalg.slogdet(within)[1] + left)


def test_covariances_come_back(found):
    random = np.random.default_rng(0)
    within, between = (side @ side.T for side in random.standard_normal((2, 5, 5)))
    model = two_covariance(np.zeros(5), between, within)
    np.testing.assert_allclose(model.between, between, atol=1e-10)
    np.testing.assert_allclose(model.within, within, atol=1e-10)
    assert (np.diff(model.psi) <= 0).all()


def test_each_iteration_makes_the_training_set_likelier(found):
    start = np.eye(6)
    models = [expectation_maximisation(found, start, start, iterations) for iterations in range(6)]
    gains = np.diff([likelihood(found, model) for model in models])
    assert (gains > 0).all()


def test_the_likeliest_model_is_speechbrains(found):
    """From a far worse beginning, and in few iterations, which takes the expansion of parameters."""
    golden = np.load(FOLDER / "scoring.npz")
    model = expectation_maximisation(found, np.eye(6), 1e-3 * np.eye(6), 20)
    for name in ("mean", "between", "within"):
        np.testing.assert_allclose(getattr(model, name), golden[f"plda converged/{name}"], rtol=0, atol=1e-6)


def test_axes_without_any_difference_of_speakers_stay_without(found):
    between = np.diag([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    model = expectation_maximisation(found, np.eye(6), between, 5)
    np.testing.assert_allclose(model.psi[3:], 0.0, atol=1e-8)
    assert np.isfinite(model.matrix).all()
