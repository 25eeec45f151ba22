from __future__ import annotations

import numpy as np
import pytest

from eval.calibration.quality import CohortStatistics, Quality, kinds_of, measure
from eval.embeddings import Embeddings
from eval.trials import Trials
from shard_tools.errors import UserError

TRIALS = Trials(
    np.array([1, 0, 0], np.int8), np.array([0, 1, 2]), np.array([1, 2, 0]), ["a", "b", "c"], "list", ""
)
TURNED = Trials(TRIALS.label, TRIALS.right, TRIALS.left, TRIALS.names, "list", "")


def embeddings(seconds=(8.0, 2.0, 4.0)):
    vectors = np.array([[[9, 9], [9, 9]], [[3, 4], [0, 1]], [[0, 2], [0, 4]], [[6, 8], [0, 0]]], np.float32)
    # In another order than the trials name them, and one that they do not.
    return Embeddings(("x", "c", "b", "a"), vectors, 2, 100, "", np.array([1, *seconds[::-1]], np.float32))


def test_worked_by_hand_and_the_same_for_trials_turned_round():
    cohort = CohortStatistics(np.array([[0.1, 0.2], [0.4, 0.3], [0.5, 0.5]]), np.array([[2.0, 1.0]] * 3))
    found = measure(["duration", "magnitude", "cohort"], TRIALS, embeddings(), cohort)
    assert found.names == (
        "duration_log_min", "duration_log_max", "magnitude_min", "magnitude_max",
        "cohort_mean_min", "cohort_mean_max", "cohort_std_min", "cohort_std_max",
    )  # fmt: skip
    np.testing.assert_allclose(np.exp(found.values[:, 0]), [2, 2, 4], rtol=1e-6)
    np.testing.assert_allclose(np.exp(found.values[:, 1]), [8, 4, 8], rtol=1e-6)
    np.testing.assert_allclose(
        found.values[:, 2], [3, 3, 3]
    )  # a: (10 + 0) / 2, b: (2 + 4) / 2, c: (5 + 1) / 2
    np.testing.assert_allclose(found.values[:, 3], [5, 3, 5])
    np.testing.assert_allclose(found.values[:, 4:6], [[0.1, 0.2], [0.3, 0.4], [0.5, 0.5]])
    turned = CohortStatistics(cohort.mean[:, ::-1], cohort.std[:, ::-1])
    again = measure(["duration", "magnitude", "cohort"], TURNED, embeddings(), turned)
    np.testing.assert_array_equal(again.values, found.values)
    assert kinds_of(found.names) == ["duration", "magnitude", "cohort"]
    assert kinds_of(["magnitude_min"]) == ["magnitude"]


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("duration", None, "duration is measured on embeddings"),
        ("cohort", embeddings(), "cohort needs a cohort"),
        ("loudness", embeddings(), "unknown quality measure 'loudness'; one of duration, magnitude, cohort"),
        ("duration", embeddings((np.nan, 0.0, 4.0)), "do not know the duration of 2 utterances: a, b;"),
    ],
)
def test_what_cannot_be_measured(kind, given, message):
    with pytest.raises(UserError, match=message):
        measure([kind], TRIALS, given)


def test_measures_that_are_no_numbers_are_refused():
    cohort = CohortStatistics(np.full((3, 2), np.nan), np.ones((3, 2)))
    with pytest.raises(UserError, match="cohort_mean_min is not finite in 3 of 3 trials"):
        measure(["cohort"], TRIALS, None, cohort)


def test_columns_are_taken_by_name():
    quality = Quality(("a", "b"), np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.testing.assert_array_equal(quality.select(["b", "a"]), [[2, 1], [4, 3]])
    with pytest.raises(UserError, match="needs the quality measures c; here are a, b"):
        quality.select(["a", "c"])
