from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools.audio.levels import CLIPPED_RUN, FRAME, clipped_share, silent_share


def sine(frames: int, peak: float) -> np.ndarray:
    return np.rint(peak * np.sin(np.arange(frames) / 5)).astype(np.int16)


def test_frames_below_60_db_are_silence():
    """A sine's root mean square is its peak over the square root of two; -60 dB are 32.768."""
    assert silent_share(sine(10 * FRAME, 40)) == 1.0
    assert silent_share(sine(10 * FRAME, 60)) == 0.0
    assert silent_share(np.zeros(7, np.int16)) == 1.0
    assert silent_share(np.full(7, 1000, np.int16)) == 0.0
    assert silent_share(np.concatenate([np.zeros(3 * FRAME, np.int16), sine(FRAME + 10, 3000)])) == 3 / 5


@pytest.mark.parametrize("full", [32767, -32768, -32767])
def test_runs_at_full_scale_are_clipped(full):
    samples = np.zeros(1000, np.int16)
    samples[[0, 1, 10, 500, 501, 999]] = full
    assert clipped_share(samples) == 0.0
    samples[[20, 21, 22, 997, 998]] = full
    assert clipped_share(samples) == 6 / 1000


def test_a_square_wave_that_changes_its_sign_is_no_run():
    assert clipped_share(np.tile([32767, 32767, -32768, -32768], 50).astype(np.int16)) == 0.0


@given(st.lists(st.sampled_from([-32768, -5, 0, 32766, 32767]), min_size=1, max_size=60))
def test_clipping_is_what_counting_runs_finds(values):
    samples = np.array(values, np.int16)
    found, run, sign = 0, 0, 0
    for value in [*values, 0]:
        now = (value >= 32767) - (value <= -32767)
        if now != sign:
            found += run if sign and run >= CLIPPED_RUN else 0
            run, sign = 0, now
        run += 1
    assert clipped_share(samples) == found / len(values)
