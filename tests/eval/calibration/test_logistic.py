from __future__ import annotations

import json

import numpy as np
import pytest
from metrics_recipe import FILE, quality_columns, quality_list

from eval.calibration.logistic import Inseparable, fit_logistic
from eval.metrics import cllr

WESPEAKER = json.loads(FILE.read_text())["calibration"]


def drawn(trials=2000, seed=0):
    random = np.random.default_rng(seed)
    labels = (random.random(trials) < 0.3).astype(int)
    columns = random.standard_normal((trials, 3)) * [1.0, 5.0, 0.01] + [0.3, 40.0, 7.0]
    columns[:, 0] += 2.0 * labels
    columns[:, 1] += 3.0 * labels
    return columns, labels


@pytest.mark.parametrize("prior", [0.5, 0.01, 0.9])
def test_ratios_are_those_of_weighted_logistic_regression(prior):
    from sklearn.linear_model import LogisticRegression

    columns, labels = drawn()
    weights, offset = fit_logistic(columns, labels, prior)
    counts = np.bincount(labels)
    each = np.where(labels == 1, prior / counts[1], (1 - prior) / counts[0])
    theirs = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10000, solver="newton-cholesky")
    theirs.fit((columns - columns.mean(0)) / columns.std(0), labels, sample_weight=each * len(labels))
    odds = theirs.decision_function((columns - columns.mean(0)) / columns.std(0))
    np.testing.assert_allclose(columns @ weights + offset, odds - np.log(prior / (1 - prior)), atol=1e-6)


def test_true_ratios_stay_as_they_are():
    random = np.random.default_rng(1)
    labels = np.repeat([0, 1], 100_000)
    llr = 4.0 * (random.standard_normal(200_000) + 4.0 * labels - 2.0)[:, None]  # N(0, 1) against N(4, 1)
    weights, offset = fit_logistic(llr, labels)
    assert weights[0] == pytest.approx(1.0, abs=0.05)
    assert offset == pytest.approx(0.0, abs=0.05)


def test_the_least_cost_is_that_of_wespeakers_objective():
    columns, label = quality_columns(), quality_list()["label"]
    # Of its columns the difference depends on two others: the weights are many, the ratios are not.
    weights, offset = fit_logistic(columns, label)
    llr = columns @ weights + offset
    np.testing.assert_allclose(llr[:20], WESPEAKER["fitted"]["llr"], rtol=0, atol=1e-6)
    assert cllr(llr, label) == pytest.approx(WESPEAKER["fitted"]["cllr"], abs=1e-9)
    assert cllr(llr, label) <= WESPEAKER["stopped"]["cllr"]  # where it stops by itself
    reduced = columns[:, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12]]
    weights, offset = fit_logistic(reduced, label)
    np.testing.assert_allclose(reduced @ weights + offset, llr, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scores", [[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 2.0, 3.0], [4.0, 3.0, 2.0, 1.0]])
def test_classes_that_part_have_no_best_map(scores):
    with pytest.raises(Inseparable):
        fit_logistic(np.array(scores)[:, None], np.array([0, 0, 1, 1]))
