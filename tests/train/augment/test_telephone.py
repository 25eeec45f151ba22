"""The telephone: its band, its companding against libsndfile's, and what it does to batches."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import mu_law_decoding, mu_law_encoding

from shard_tools.audio import to_float
from train.augment import Augmenter, Recipe, draw
from train.augment.augmenter import describe
from train.augment.device import Preparer, augment
from train.augment.telephone import LAWS, call, companded

FRAMES = 32_240
EMPTY = Recipe(weights={"none": 1.0}, snr={}, clips={}, recordings={}, telephone=0.4)
OPTIONS = {"frames": FRAMES, "seed": 5, "cache_bytes": 0}


def noise(rows, seed=0):
    samples = np.random.default_rng(seed).standard_normal((rows, FRAMES)) * 3000
    return samples.clip(-32768, 32767).astype(np.int16)


def over(law, audio):
    heard = np.array(audio, np.float32, ndmin=2)
    call(heard, np.arange(len(heard)), np.full(len(heard), LAWS.index(law)))
    return heard


def bands(audio, *edges):
    """Power in dB between each two of the edges (Hz)."""
    power, frequency = np.abs(np.fft.rfft(audio, axis=1)) ** 2, np.fft.rfftfreq(audio.shape[1], 1 / 16_000)
    return np.array(
        [
            10 * np.log10(power[:, (frequency >= low) & (frequency < high)].sum())
            for low, high in pairwise(edges)
        ]
    )


@pytest.mark.parametrize(("law", "subtype"), [("mulaw", "ULAW"), ("alaw", "ALAW")])
def test_every_sample_comes_back_as_from_libsndfile(law, subtype):
    samples = np.arange(65_536).astype(np.uint16).view(np.int16)
    file = io.BytesIO()
    soundfile.write(file, samples, 8000, subtype=subtype, format="WAV")
    file.seek(0)
    theirs, _ = soundfile.read(file, dtype="int16")
    assert np.array_equal(companded()[LAWS.index(law)] * 32768, theirs)


def test_mu_law_follows_the_continuous_formula():
    """torchaudio's is the curve that G.711 lays chords on: apart by less than a step of eight bits."""
    samples = np.arange(65_536).astype(np.uint16).view(np.int16)
    x = torch.from_numpy(samples / np.float32(32768))
    theirs = mu_law_decoding(mu_law_encoding(x, 256), 256).numpy()
    assert np.abs(companded()[0] - theirs).max() < 1 / 16
    small = np.abs(samples.astype(int)) < 2000
    assert np.abs(companded()[0] - theirs)[small].max() < 1 / 256


@pytest.mark.parametrize("law", LAWS)
def test_the_band_stays_and_what_is_outside_falls_by_30_db(law):
    crops = to_float(noise(8))
    edges = (0, 200, 300, 3400, 3700, 4000, 8000)
    low, _, inside, _, high, above = bands(over(law, crops), *edges) - bands(crops, *edges)
    assert max(low, high, above) < -30
    assert abs(inside) < 0.5


@pytest.mark.parametrize("law", LAWS)
def test_a_tone_of_the_band_comes_through_in_time_with_the_noise_of_eight_bits(law):
    time = np.arange(FRAMES) / 16_000
    tone = (0.3 * np.sin(2 * np.pi * 1013.7 * time)).astype(np.float32)
    error = over(law, tone)[0] - tone
    inside = slice(800, -800)  # the edges of a crop ring
    ratio = 10 * np.log10(np.square(tone[inside]).mean() / np.square(error[inside]).mean())
    assert 34 < ratio < 42  # G.711 keeps about 38 dB at such a level; 7 bits would have 32, 9 bits 44


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 400, 32_768])
def test_crops_of_any_length(frames):
    heard = over("alaw", np.full((3, frames), 0.1, np.float32))
    assert heard.shape == (3, frames)
    assert np.isfinite(heard).all()


@pytest.mark.parametrize("law", LAWS)
def test_every_second_sample_is_what_the_line_carried(law):
    heard = 32_768 * over(law, to_float(noise(2)))[:, ::2]
    levels = np.unique(32_768 * companded()[LAWS.index(law)])
    assert len(levels) == (255 if law == "mulaw" else 256)  # μ-law has two zeros
    apart = np.abs(heard[..., None] - levels).min(axis=-1)
    assert apart.max() < 0.1


def test_what_is_too_loud_is_cut_and_silence_stays_silent():
    loud = over("mulaw", 40 * to_float(noise(1)))
    assert np.abs(loud[:, ::2]).max() == pytest.approx(32_124 / 32_768, abs=1e-5)  # μ-law's highest level
    assert not over("mulaw", np.zeros(FRAMES)).any()


def test_draws_depend_on_seed_epoch_and_n_alone_and_move_no_others():
    recipe = Recipe(
        weights={"none": 1, "babble": 2, "noise": 1, "reverberation": 1},
        snr={"babble": (13.0, 20.0), "noise": (0.0, 15.0)},
        clips={"babble": (3, 7)},
        recordings={"babble": 9, "noise": 4, "reverberation": 2},
    )
    n = np.arange(4000)
    before, now = draw(recipe, 7, 2, n), draw(replace(recipe, telephone=0.25), 7, 2, n)
    assert not len(before.calls.row)
    assert np.array_equal(before.kind, now.kind)
    for kind, clips in before.clips.items():
        for name, column in vars(clips).items():
            assert np.array_equal(column, getattr(now.clips[kind], name)), (kind, name)
    assert abs(len(now.calls.row) / 4000 - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)
    assert abs(now.calls.law.mean() - 0.5) < 5 * 0.5 / np.sqrt(1000)
    assert set(now.kind[now.calls.row].tolist()) == {0, 1, 3, 4}  # whatever else a row gets
    for part in (np.array([17]), n[1000:1300], n[::7]):
        alone = draw(replace(recipe, telephone=0.25), 7, 2, part)
        law = dict(zip(now.calls.row.tolist(), now.calls.law.tolist(), strict=True))
        called = [(int(number), law[number]) for number in part.tolist() if number in law]
        assert [*zip(part[alone.calls.row].tolist(), alone.calls.law.tolist(), strict=True)] == called
    only = draw(replace(recipe, telephone=1.0, laws=("alaw",)), 7, 2, n)
    assert len(only.calls.row) == 4000
    assert set(only.calls.law.tolist()) == {1}


@pytest.mark.slow
def test_a_row_is_bit_equal_however_the_batch_is_cut():
    augmenter, n = Augmenter(EMPTY, {}, **OPTIONS), np.arange(23)
    whole = to_float(noise(23))
    draws = augmenter(whole, 3, n)
    assert 3 < len(draws.calls.row) < 20
    kept = np.setdiff1d(n, draws.calls.row)
    assert np.array_equal(whole[kept], to_float(noise(23))[kept])
    assert (whole[draws.calls.row] != to_float(noise(23))[draws.calls.row]).any(axis=1).all()
    for size in (1, 6):
        for first in range(0, 23, size):
            part = to_float(noise(23))[first : first + size].copy()
            augmenter(part, 3, n[first : first + size])
            assert part.tobytes() == whole[first : first + size].tobytes()


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_a_device_does_the_same(device):
    """A sample on the edge of two steps of G.711 may fall either way: few do, and each moves little."""
    augmenter, preparer = (kind(EMPTY, {}, **OPTIONS) for kind in (Augmenter, Preparer))
    crops, n = noise(30), np.arange(30)
    expected = to_float(crops)
    augmenter(expected, 1, n)
    prepared = preparer.prepare(1, n)
    found = augment(torch.from_numpy(crops), prepared, torch.device(device)).cpu().numpy()
    assert set(prepared["call_law"].tolist()) == {0, 1}
    error = np.sqrt(np.square(found - expected).mean(axis=1) / np.square(expected).mean(axis=1))
    assert error.max() < 1e-3  # the noise of the eight bits itself is at 1e-2
    again = augment(torch.from_numpy(crops), prepared, torch.device(device)).cpu().numpy()
    assert found.tobytes() == again.tobytes()


def test_the_log_says_what_is_done():
    recipe = replace(EMPTY, telephone=0.25, laws=("alaw",))
    assert describe(recipe) == "none 100 %, and 25 % of all over a telephone (alaw)"
