from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import error_rates, false_reject_at

trials = st.lists(st.tuples(st.integers(-8, 8), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@pytest.mark.slow
@given(trials, st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.99]))
def test_it_is_the_least_of_all_thresholds_that_keep_the_bound(rows, bound):
    scores, labels = (np.array(column, float) for column in zip(*rows, strict=True))
    rate, threshold = false_reject_at(error_rates(scores, labels), bound)
    allowed = [
        np.mean(scores[labels == 1] < t)
        for t in (*np.unique(scores), np.inf)
        if np.mean(scores[labels == 0] >= t) <= bound
    ]
    assert rate == min(allowed)
    assert np.mean(scores[labels == 0] >= threshold) <= bound
    assert np.mean(scores[labels == 1] < threshold) == rate


@pytest.mark.parametrize("nontargets", [100, 1000, 3000, 290_000])
def test_a_bound_that_is_met_exactly_is_kept(nontargets):
    # One accepted in a hundred is 1 %, whatever 0.01 is in binary.
    labels = np.concatenate((np.zeros(nontargets, int), [1]))
    scores = np.concatenate((np.arange(nontargets), [nontargets * 0.99 + 0.5 - 1]))
    rate, _ = false_reject_at(error_rates(scores, labels), 0.01)
    assert rate == 0.0
