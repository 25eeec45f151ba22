"""Speed perturbation: the numbers of virtual utterances and speakers, and what is heard."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools.errors import UserError
from train.augment.speed import Speeds, change_speed, check_speeds, frames_needed


@pytest.mark.slow
@given(
    st.integers(1, 500), st.integers(1, 50), st.lists(st.sampled_from([0.9, 1.1, 0.75, 1.25]), unique=True)
)
def test_every_virtual_utterance_leads_back_to_its_own(utterances, speakers, given_speeds):
    speeds = Speeds.of(given_speeds, utterances, speakers)
    label = (np.arange(utterances) % speakers).astype(np.int32)
    numbers, labels = speeds.numbers(np.arange(utterances)), speeds.labels(label)
    assert np.array_equal(numbers, np.arange(utterances * len(speeds.factors)))
    number, original = speeds.split(numbers)
    assert np.array_equal(labels, label[original] + number * speakers)


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_pitch_moves_with_the_speed(speed):
    fraction = Fraction(speed).limit_denominator(100)
    needed = frames_needed(16000, fraction)
    tone = np.sin(2 * np.pi * 200 * np.arange(needed) / 16000).astype(np.float32)[None]
    played = change_speed(tone, fraction, 16000)
    assert played.shape == (1, 16000)
    assert played.dtype == np.float32
    heard = np.argmax(np.abs(np.fft.rfft(played[0] * np.hanning(16000))))
    assert heard == round(200 * speed)
    assert np.abs(played[0, 500:-500]).max() == pytest.approx(1.0, abs=0.01)


def test_a_row_does_not_depend_on_the_others():
    fraction = Fraction(9, 10)
    audio = np.random.default_rng(0).standard_normal((5, frames_needed(3000, fraction))).astype(np.float32)
    together = change_speed(audio, fraction, 3000)
    for row in range(5):
        assert change_speed(audio[row : row + 1], fraction, 3000)[0].tobytes() == together[row].tobytes()


@given(st.integers(1, 10**6), st.sampled_from([Fraction(9, 10), Fraction(11, 10), Fraction(3, 2)]))
def test_enough_frames_are_read(frames, speed):
    needed = frames_needed(frames, speed)
    made = -(-needed * speed.denominator // speed.numerator)  # what resample_poly makes of them
    assert frames <= made <= frames + 2


@pytest.mark.parametrize("speeds", [[1.0], [0.9, 0.9], [3.0], [0.9001]])
def test_speeds_that_make_no_sense_are_refused(speeds):
    with pytest.raises(UserError, match=r"augment\.speed"):
        check_speeds(speeds)
