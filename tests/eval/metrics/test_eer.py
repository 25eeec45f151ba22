from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import convex_hull, convex_hull_eer, equal_error_rate, error_rates, voxceleb_trainer_eer

# Whole numbers: ties are common.
trials = st.lists(st.tuples(st.integers(-8, 8), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def rates_of(rows):
    scores, labels = zip(*rows, strict=True)
    return error_rates(np.array(scores, dtype=float), np.array(labels))


@pytest.mark.slow
@given(trials)
def test_the_trainers_rate_is_read_at_the_corners_that_scikit_learn_keeps(rows):
    from sklearn.metrics import roc_curve

    scores, labels = zip(*rows, strict=True)
    fpr, tpr, _ = roc_curve(labels, np.array(scores, float), pos_label=1)
    fnr = 1 - tpr
    closest = np.nanargmin(np.abs(fnr - fpr))
    assert voxceleb_trainer_eer(rates_of(rows)) == max(fpr[closest], fnr[closest])


@pytest.mark.slow
@given(trials)
def test_the_hulls_rate_is_the_least_over_its_edges(rows):
    # Where the diagonal meets the hull: the largest over slopes of the least weighted error.
    rates = rates_of(rows)
    shares = np.linspace(0, 1, 2001)
    least = np.min(np.outer(shares, rates.false_accept) + np.outer(1 - shares, rates.false_reject), axis=1)
    assert convex_hull_eer(rates) == pytest.approx(least.max(), abs=5e-4)
    assert convex_hull_eer(rates) <= equal_error_rate(rates)[0] + 1e-12


@pytest.mark.slow
@given(trials)
def test_the_hull_is_convex_and_below_all_points(rows):
    rates = rates_of(rows)
    hull = convex_hull(rates)
    assert (hull.false_accept[0], hull.false_reject[0]) == (1.0, 0.0)
    assert (hull.false_accept[-1], hull.false_reject[-1]) == (0.0, 1.0)
    right, up = -np.diff(hull.false_accept), np.diff(hull.false_reject)
    assert (np.diff(np.arctan2(up, right)) > -1e-12).all()
    # Points by rising false accept, as np.interp wants them; at a vertical edge the lowest counts.
    at = np.interp(rates.false_accept, hull.false_accept[::-1], hull.false_reject[::-1])
    inside = (rates.false_accept > 0) & (rates.false_accept < 1)
    assert (at <= rates.false_reject + 1e-12)[inside].all()


def test_the_hull_worked_by_hand():
    # Scores 1 2 3 4 with labels 0 1 0 1: 2 and 3 stand the wrong way round, and are pooled.
    hull = convex_hull(error_rates([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 1]))
    np.testing.assert_array_equal(hull.thresholds, [1.0, 2.0, 4.0, np.inf])
    assert convex_hull_eer(error_rates([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 1])) == pytest.approx(0.25)
    assert equal_error_rate(error_rates([1.0, 2.0, 3.0, 4.0], [0, 1, 0, 1]))[0] == pytest.approx(0.5)
