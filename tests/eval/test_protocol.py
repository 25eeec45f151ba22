"""Pieces of utterances are where the protocol says, and digests tell protocols apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.protocol import SHORTEST, Protocol, crop_starts, window_starts
from models.parts.frontend import crop_length


def ramp(frames):
    return np.arange(frames, dtype=np.int16)


def test_crops_are_spread_evenly_from_end_to_end():
    assert crop_starts(10, 4, 3).tolist() == [0, 3, 6]
    assert crop_starts(10, 5, 4).tolist() == [0, 1, 3, 5]  # 0, 5/3, 10/3, 5: truncated
    assert crop_starts(10, 4, 1).tolist() == [0]


def test_short_utterances_are_repeated_to_one_sample_more_than_the_crop():
    one = crop_length(1)
    pieces = Protocol.of_crops(2, 1).pieces(ramp(300)).all()
    np.testing.assert_array_equal(pieces[0], np.arange(one) % 300)
    np.testing.assert_array_equal(pieces[1], np.arange(1, one + 1) % 300)
    exactly = Protocol.of_crops(2, 1).pieces(ramp(one)).all()
    assert exactly[:, 0].tolist() == [0, 1]  # exactly as long: repeated too


@pytest.mark.parametrize("frames", [7, 399, 400, 401, 1350])
@pytest.mark.parametrize("crops", [1, 2, 10])
def test_crops_against_the_definition_in_floating_point(frames, crops):
    samples = np.random.default_rng(frames).integers(-999, 999, frames).astype(np.int16)
    padded = np.pad(samples, (0, 401 - frames), "wrap") if frames <= 400 else samples
    expected = [padded[int(s) : int(s) + 400] for s in np.linspace(0, len(padded) - 400, num=crops)]
    np.testing.assert_array_equal(Protocol.of_crops(crops, 1).pieces(samples).all(), expected)


def test_whole_utterances_stay_as_they_are_unless_they_are_tiny():
    np.testing.assert_array_equal(Protocol().pieces(ramp(SHORTEST + 5)).all(), [ramp(SHORTEST + 5)])
    assert Protocol().pieces(ramp(10)).all().shape == (1, SHORTEST)
    assert Protocol().pieces(ramp(10), 5000).all().shape == (1, 5000)


def test_windows_reach_the_end():
    assert window_starts(10, 4, 3).tolist() == [0, 3, 6]
    assert window_starts(11, 4, 3).tolist() == [0, 3, 6, 7]
    assert window_starts(4, 4, 3).tolist() == [0]


@given(st.integers(1, 3000), st.integers(1, 9), st.integers(1, 9))
def test_windows_cover_all_of_the_audio(length, crop_frames, hop):
    pieces = Protocol("windows", crop_frames=crop_frames, hop=hop).pieces(ramp(length))
    heard = np.zeros(len(pieces.samples), bool)
    for start in pieces.starts:
        heard[start : start + pieces.frames] = True
        assert start + pieces.frames <= len(pieces.samples)
    assert heard.all() or hop * 160 > pieces.frames  # further apart than they are long: as asked for
    assert len(set(pieces.starts.tolist())) == len(pieces)


def test_a_mean_is_of_unit_vectors():
    vectors = np.array([[3, 0], [0, 0.5]], np.float32)
    np.testing.assert_allclose(Protocol("mean", 2, 400).join(vectors), [[0.5, 0.5]])
    np.testing.assert_array_equal(Protocol("crops", 2, 400).join(vectors), vectors)


def test_digests_tell_protocols_apart():
    some = [
        Protocol(), Protocol("crops", 10, 400), Protocol("mean", 10, 400), Protocol("crops", 10, 401),
        Protocol("windows", 0, 400, 10), Protocol("windows", 0, 400, 20),
    ]  # fmt: skip
    assert len({each.digest for each in some}) == len({each.text for each in some}) == len(some)
    assert [each.vectors for each in some] == [1, 10, 1, 10, 1, 1]
    assert Protocol.of_crops(10, 400) == some[1]
    assert Protocol.of_crops(0, 400) == some[0]


@pytest.mark.parametrize(
    "wrong", [("whole", 1), ("crops", 0, 400), ("windows", 0, 400, 0), ("mean", 2, 4, 1)]
)
def test_numbers_that_a_kind_does_not_use_are_refused(wrong):
    with pytest.raises(ValueError):
        Protocol(*wrong)
