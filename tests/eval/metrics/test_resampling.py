from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import OperatingPoint, detection_metrics
from eval.metrics.resampling import Resampled, multiplicities

POINTS = [OperatingPoint(0.05), OperatingPoint(0.3, c_miss=2.0)]


@st.composite
def lists(draw):
    """Scores with ties, labels and sides of a list of few speakers, and how often each of them counts."""
    speakers = draw(st.integers(2, 5))
    who = st.integers(0, speakers - 1)
    rows = draw(st.lists(st.tuples(st.integers(-6, 6), who, who), min_size=2, max_size=30))
    score, left, right = (np.array(column) for column in zip(*rows, strict=True))
    times = draw(st.lists(st.integers(0, 3), min_size=speakers, max_size=speakers))
    return score / 4.0, (left == right).astype(int), np.stack((left, right), axis=1), np.array(times)


@pytest.mark.slow
@given(lists())
def test_figures_are_those_of_the_list_with_its_trials_written_so_often(listed):
    scores, labels, sides, times = listed
    if labels.all() or not labels.any():
        return
    known = np.unique(sides)
    one = Resampled(scores, labels, sides, POINTS, calibrated=True)
    assert one.speakers == len(known)
    figures = one.figures(times[known])
    left, right = sides.T
    often = np.where(left == right, times[left], times[left] * times[right])
    written = np.repeat(np.arange(len(scores)), often)
    if len(set(labels[written])) < 2:
        assert np.isnan(figures).all()
        return
    expected = detection_metrics(scores[written], labels[written], POINTS, calibrated=True)
    for name, figure in zip(one.names, figures, strict=True):
        value = expected
        for part in name:
            value = value[part]
        assert figure == pytest.approx(value, abs=1e-9), name


def test_draws_are_a_function_of_seed_and_number():
    first = multiplicities(3, 7, 500)
    np.testing.assert_array_equal(first, multiplicities(3, 7, 500))
    assert first.sum() == 500
    assert not np.array_equal(first, multiplicities(3, 8, 500))
    assert not np.array_equal(first, multiplicities(4, 7, 500))
    # Which stays so from release to release: intervals in papers can be made again.
    assert multiplicities(0, 0, 8).tolist() == [0, 0, 0, 0, 4, 0, 1, 3]


def test_every_speaker_comes_up_as_often_as_another():
    counts = np.array([multiplicities(0, draw, 20) for draw in range(4000)])
    # The mean of 4,000 multinomial counts of mean 1 and variance 0.95 is off by 0.0154 (one sigma).
    np.testing.assert_allclose(counts.mean(axis=0), 1.0, atol=5 * 0.0154)
    np.testing.assert_allclose(counts.var(axis=0), 0.95, rtol=0.2)
