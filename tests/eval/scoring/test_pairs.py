from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.scoring.pairs import batches

PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 30)), max_size=80)


@pytest.mark.slow
@given(PAIRS, st.integers(1, 20))
def test_every_trial_is_in_one_batch_with_its_two_utterances(pairs, most):
    left, right = np.array(pairs, np.int64).reshape(-1, 2).T
    seen = []
    for one, others, trials in batches(left, right, most):
        assert others.shape == trials.shape == (len(one), trials.shape[1])
        assert trials.size <= max(most, trials.shape[1])  # one utterance's at least
        seen += trials.ravel().tolist()
        ones = np.broadcast_to(one[:, None], trials.shape)
        found = np.sort(np.stack([ones, others]), axis=0)
        np.testing.assert_array_equal(found, np.sort(np.stack([left[trials], right[trials]]), axis=0))
    assert sorted(seen) == list(range(len(pairs)))


def test_an_utterance_of_many_trials_meets_them_together_whatever_its_side():
    many, few = np.arange(20), np.zeros(20, np.int64)
    for left, right in ((few, many), (many, few)):
        sizes = [others.shape for _, others, _ in batches(left, right, 64)]
        assert sizes == [(2, 8), (1, 4)]
