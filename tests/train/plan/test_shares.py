"""Weights to speakers of a batch."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.plan import PlanError, shares


@pytest.mark.slow
@given(
    st.integers(1, 300),
    st.lists(st.floats(0.001, 1000), min_size=1, max_size=5),
    st.sampled_from([1, 2, 4]),
)
def test_shares_fill_the_batch_and_are_off_by_less_than_a_speaker_of_a_lane(each, weights, lanes):
    if each * min(weights) / sum(weights) < 1:
        with contextlib.suppress(PlanError):  # refused, or lifted to one
            assert min(shares(each * lanes, weights, lanes)) > 0
        return
    found = shares(each * lanes, weights, lanes)
    assert sum(found) == each * lanes
    for share, weight in zip(found, weights, strict=True):
        assert share % lanes == 0
        assert share > 0
        assert abs(share / lanes - each * weight / sum(weights)) < 1


@pytest.mark.parametrize(
    ("speakers", "weights", "lanes", "expected"),
    [
        (208, [3, 1], 1, [156, 52]),
        (8, [1, 1, 1], 1, [3, 3, 2]),
        (10, [2.0, 1.0], 1, [7, 3]),
        (8, [3, 1], 2, [6, 2]),
        (8, [2, 1], 4, [4, 4]),
    ],
)
def test_the_largest_remainder_is_rounded_up(speakers, weights, lanes, expected):
    assert shares(speakers, weights, lanes) == expected


def test_a_dataset_without_a_speaker_is_refused():
    with pytest.raises(PlanError, match=r"give 1 of 10 to dataset 2, which is none of the 4 speakers"):
        shares(4, [9, 1])
    with pytest.raises(PlanError, match=r"batch\.speakers 10 is not a multiple of data\.windows\.lanes 4"):
        shares(10, [1, 1], 4)
