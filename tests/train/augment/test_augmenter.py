"""Draws and treatments of the augmenter, on sources made of arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal

from shard_tools.audio import to_float, wrap
from train.augment import KINDS, Augmenter, Recipe, draw
from train.augment.mix import POWER_FLOOR, add_at_snr, mean_power
from train.augment.recordings import Recordings
from train.augment.reverberate import Reverberator, fft_length
from train.augment.telephone import call

FRAMES = 8000


class ArrayReader:
    """A reader over arrays in memory."""

    def __init__(self, arrays):
        self.arrays = arrays

    def crops(self, utterances, starts, frames):
        rows = [self.arrays[u][s : s + frames] for u, s in zip(utterances, starts, strict=True)]
        return np.stack([wrap(row, frames) for row in rows])

    def rows(self, utterances, starts, frames):
        return iter(self.crops(utterances, starts, frames))

    def utterance(self, u):
        return self.arrays[u]


def make_source(lengths, seed, scale=3000):
    rng = np.random.default_rng(seed)
    arrays = [
        (rng.standard_normal(length) * scale).clip(-32768, 32767).astype(np.int16) for length in lengths
    ]
    return Recordings(ArrayReader(arrays), np.arange(len(arrays)), np.array(lengths))


SNR = {"music": (5.0, 15.0), "babble": (13.0, 20.0), "noise": (0.0, 15.0)}


def make_augmenter(chained=0.0, telephone=0.0, frames=FRAMES):
    sources = {
        "reverberation": make_source([300, 4000, 9000], 1),
        "music": make_source([20000, 30000], 2),
        "babble": make_source([9000] * 12, 3),
        "noise": make_source([5000, 8000, 16000], 4),  # one shorter than the crop
    }
    recipe = Recipe(
        weights=dict.fromkeys(KINDS, 1.0) | {"chained": chained},
        snr=SNR,
        clips={"music": (1, 1), "babble": (3, 7), "noise": (1, 1)},
        recordings={kind: len(source) for kind, source in sources.items()},
        telephone=telephone,
    )
    return Augmenter(recipe, sources, frames=frames, seed=5, cache_bytes=1 << 20)


@pytest.fixture
def augmenter():
    return make_augmenter()


def sound(rows, seed):
    """int16 recordings."""
    return np.rint(speech(rows, seed) * 32768).astype(np.int16)


def speech(rows, seed=0):
    return (np.random.default_rng(seed).standard_normal((rows, FRAMES)) * 0.1).astype(np.float32)


def test_the_five_treatments_come_equally_often(augmenter):
    kinds = augmenter.draw(0, np.arange(50_000)).kind
    counts = np.bincount(kinds, minlength=6)
    assert counts[KINDS.index("chained")] == 0
    # each of the others is binomial with sigma 89
    assert np.all(np.abs(counts[:5] - 10_000) < 5 * 89)


def test_chained_rows_are_reverberated_and_then_get_one_of_the_others():
    augmenter = make_augmenter(chained=5.0)
    draws = augmenter.draw(0, np.arange(10_000))
    chained = draws.kind == KINDS.index("chained")
    assert abs(chained.mean() - 0.5) < 0.03
    wet = np.isin(np.arange(10_000), draws.clips["reverberation"].row)
    assert np.all(wet[chained])
    added = [np.isin(np.arange(10_000), draws.clips[kind].row) for kind in ("music", "babble", "noise")]
    assert np.all(np.sum(added, axis=0)[chained] == 1)
    assert all(abs(one[chained].mean() - 1 / 3) < 0.03 for one in added)

    row = int(np.flatnonzero(chained & added[2])[0])
    audio = speech(1)
    augmenter(audio, 0, np.array([row]))
    expected = speech(1)
    response = draws.clips["reverberation"].recording[draws.clips["reverberation"].row == row]
    augmenter._reverberator(expected, np.array([0]), response)
    noise = draws.clips["noise"]
    own = noise.row == row
    clips = type(noise)(np.array([0]), noise.recording[own], noise.position[own], noise.snr[own])
    add_at_snr(expected, clips.row, augmenter._sources["noise"].crops(clips, FRAMES), clips.snr)
    assert np.array_equal(audio, expected)


def test_ranges_of_the_draws(augmenter):
    draws = augmenter.draw(0, np.arange(20_000))
    for kind, (low, high) in SNR.items():
        snr = draws.clips[kind].snr
        assert low <= snr.min() < low + 0.1
        assert high - 0.1 < snr.max() <= high
    babble = draws.clips["babble"]
    counts = np.bincount(babble.row)[np.unique(babble.row)]
    assert set(counts.tolist()) == {3, 4, 5, 6, 7}
    for row in np.unique(babble.row)[:200]:
        used = babble.recording[babble.row == row]
        assert len(np.unique(used)) == len(used), "a voice is twice in one babble"
    assert set(babble.recording.tolist()) == set(range(12))


@pytest.mark.slow
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 100), st.lists(st.integers(0, 2**40), min_size=1, max_size=30)
)
@settings(max_examples=60, deadline=None)
def test_a_draw_depends_on_seed_epoch_and_n_alone(seed, epoch, numbers):
    recipe = Recipe(
        weights={"none": 1, "babble": 2, "noise": 1, "reverberation": 1},
        snr=SNR,
        clips={"babble": (3, 7)},
        recordings={"babble": 9, "noise": 4, "reverberation": 2},
    )
    n = np.array(numbers)
    together = draw(recipe, seed, epoch, n)
    for row, number in enumerate(numbers):
        alone = draw(recipe, seed, epoch, np.array([number]))
        assert alone.kind[0] == together.kind[row]
        for kind, clips in alone.clips.items():
            mine = together.clips[kind].row == row
            assert np.array_equal(clips.recording, together.clips[kind].recording[mine])
            assert np.array_equal(clips.position, together.clips[kind].position[mine])
            assert np.array_equal(clips.snr, together.clips[kind].snr[mine])


@pytest.mark.slow
@pytest.mark.parametrize(("chained", "telephone"), [(0.0, 0.0), (3.0, 0.0), (3.0, 0.5)])
def test_audio_is_bit_equal_however_the_batch_is_cut(chained, telephone):
    augmenter = make_augmenter(chained, telephone)
    n = np.arange(40)
    whole = speech(40)
    augmenter(whole, 3, n)
    for size in (1, 7, 20):
        for first in range(0, 40, size):
            part = speech(40)[first : first + size].copy()
            augmenter(part, 3, n[first : first + size])
            assert part.tobytes() == whole[first : first + size].tobytes()


def test_the_telephone_comes_last():
    """A call carries its room and its noise."""
    n = np.arange(30)
    heard, expected = speech(30), speech(30)
    calls = make_augmenter(3.0, 0.5)(heard, 2, n).calls
    make_augmenter(3.0)(expected, 2, n)
    call(expected, calls.row, calls.law)
    assert len(calls.row)
    assert heard.tobytes() == expected.tobytes()


def test_shorter_batches_are_treated_as_crops_of_that_length():
    """An augmenter for longer crops has longer transforms, and computes the same."""
    n = np.arange(40)
    found = speech(40)[:, :5000].copy()
    make_augmenter(3.0, 0.3)(found, 1, n)
    expected = speech(40)[:, :5000].copy()
    make_augmenter(3.0, 0.3, frames=5000)(expected, 1, n)
    # A sample on the edge of two steps of the telephone may fall either way.
    assert np.sqrt(np.square(found - expected).mean(axis=1)).max() < 1e-4


def test_untreated_rows_stay_and_treated_rows_change(augmenter):
    audio = speech(60)
    draws = augmenter(audio, 0, np.arange(60))
    same = (audio == speech(60)).all(axis=1)
    assert np.array_equal(same, draws.kind == KINDS.index("none"))
    assert set(draws.kind.tolist()) == set(range(5))


def test_added_noise_has_the_ratio_that_was_drawn():
    audio, clips = speech(3), sound(4, seed=1)
    added = to_float(clips)
    rows, snr = np.array([0, 2, 2, 2]), np.array([10.0, 0.0, 5.0, 20.0])
    mixed = audio.copy()
    add_at_snr(mixed, rows, clips, snr)
    assert np.array_equal(mixed[1], audio[1])
    reference = audio.astype(np.float64)
    clean = (audio.astype(np.float64) ** 2).mean(axis=1) + POWER_FLOOR
    for row, clip, ratio in zip(rows, added, snr, strict=True):
        power = (clip.astype(np.float64) ** 2).mean() + POWER_FLOOR
        reference[row] += clip * np.sqrt(clean[row] / power * 10 ** (-ratio / 10))
    np.testing.assert_allclose(mixed, reference, rtol=0, atol=2e-6)


def test_silence_neither_divides_by_zero_nor_explodes():
    silent = np.zeros((1, FRAMES), np.float32)
    add_at_snr(silent, np.array([0]), sound(1, seed=0), np.array([0.0]))
    assert np.isfinite(silent).all()
    assert mean_power(silent[0]) < 3e-4  # the floor's power, not the noise's own 1e-2
    spoken = speech(1)
    add_at_snr(spoken, np.array([0]), np.zeros((1, FRAMES), np.int16), np.array([0.0]))
    assert np.array_equal(spoken, speech(1))


@pytest.mark.parametrize("taps", [1, 400, 7999, 8000, 12000])
def test_reverberation_is_convolution_with_unit_energy(taps):
    """Against scipy's direct definition in float64, as the VoxCeleb trainer computes it."""
    response = np.random.default_rng(taps).standard_normal(taps).astype(np.float32) * np.float32(0.3)
    audio = speech(1)[0]
    ours = speech(1)
    Reverberator(lambda _: response, FRAMES, taps, 1 << 20)(ours, np.array([0]), np.array([0]))
    exact = response.astype(np.float64) / np.sqrt((response.astype(np.float64) ** 2).sum())
    theirs = signal.convolve(audio.astype(np.float64), exact, mode="full")[:FRAMES]
    np.testing.assert_allclose(ours[0], theirs, rtol=0, atol=3e-6 * np.abs(theirs).max())


def test_spectra_stay_within_their_bytes():
    loads = []

    def load(number):
        loads.append(number)
        return np.ones(10, np.float32)

    one = (fft_length(FRAMES + 9) // 2 + 1) * 8
    reverberate = Reverberator(load, FRAMES, 10, cache_bytes=2 * one)
    for number in (0, 1, 0, 2, 0, 1):
        reverberate(speech(1), np.array([0]), np.array([number]))
    assert loads == [0, 1, 2, 1], "the least recently used spectrum should have gone"


@given(st.integers(1, 10**6))
def test_fft_lengths(frames):
    points = fft_length(frames)
    assert frames <= points < 2 * max(frames, 2)
    while points % 2 == 0:
        points //= 2
    assert points in (1, 3)


def test_short_recordings_repeat(augmenter):
    source = make_source([1000], 9)
    clips = augmenter.draw(0, np.arange(2000)).clips["noise"]
    chosen = type(clips)(clips.row, np.zeros_like(clips.recording), clips.position, clips.snr)
    audio = source.crops(chosen, FRAMES)
    once = source.reader.arrays[0]
    assert np.array_equal(audio[0], np.tile(once, 8))
