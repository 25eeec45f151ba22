from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import cllr, error_rates, min_cllr

trials = st.lists(st.tuples(st.integers(-8, 8), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


def test_cllr_worked_by_hand():
    assert cllr([0.0, 0.0, 0.0], [0, 1, 0]) == pytest.approx(1.0)
    # log2(1 + 1/3) for the target of ratio 3, log2(1 + 1/7) for the other of ratio 1/7.
    expected = 0.5 * (math.log2(4 / 3) + math.log2(8 / 7))
    assert cllr([math.log(3), -math.log(7)], [1, 0]) == pytest.approx(expected)
    assert cllr([800.0, -800.0], [0, 1]) == pytest.approx(800 / math.log(2))  # no overflow


@pytest.mark.slow
@given(trials)
def test_min_cllr_is_that_of_isotonic_regression(rows):
    from sklearn.isotonic import IsotonicRegression

    scores, labels = (np.array(column, float) for column in zip(*rows, strict=True))
    found = min_cllr(error_rates(scores, labels))
    share = labels.mean()
    posterior = IsotonicRegression().fit(scores, labels).predict(scores)
    with np.errstate(divide="ignore"):
        llr = np.log(posterior / (1 - posterior)) - math.log(share / (1 - share))
    assert found == pytest.approx(cllr(np.clip(llr, -700, 700), labels.astype(int)), abs=1e-9)
    assert 0.0 <= found <= 1.0 + 1e-12


@pytest.mark.slow
@given(trials)
def test_no_map_does_better(rows):
    scores, labels = (np.array(column, float) for column in zip(*rows, strict=True))
    least = min_cllr(error_rates(scores, labels))
    for slope in (0.1, 0.5, 2.0):
        for offset in (-2.0, 0.0, 1.0):
            assert cllr(slope * scores + offset, labels.astype(int)) >= least - 1e-9
