"""The signals of the synthetic corpus: what a voice keeps, what noise and rooms are like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.synthetic.voices import (
    NOISES,
    SAMPLE_RATE,
    Signal,
    Voice,
    coloured_noise,
    draw_room,
    draw_voice,
    generator,
    music,
    record,
    speak,
)


def band_energy(signal: Signal, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(signal)) ** 2
    frequency = np.fft.rfftfreq(len(signal), 1 / SAMPLE_RATE)
    return float(power[(frequency >= low) & (frequency < high)].sum())


def spectral_centre(voice: Voice, seed: int) -> float:
    """Mean frequency in Hz, weighted by magnitude, below 4 kHz, of 3 s of speech."""
    spectrum = np.abs(np.fft.rfft(speak(voice, generator(seed, "words"), 48000)))
    frequency = np.fft.rfftfreq(48000, 1 / SAMPLE_RATE)
    below = frequency < 4000
    return float(np.average(frequency[below], weights=spectrum[below]))


def test_draws_for_different_purposes_are_independent_and_repeatable() -> None:
    first, again, other = (generator(3, "voice", n).random(4).tolist() for n in ("a", "a", "b"))
    assert first == again != other


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1600, 40000))
def test_speech_has_the_length_asked_for_and_the_level_promised(seed: int, frames: int) -> None:
    said = speak(draw_voice(generator(seed, "voice")), generator(seed, "words"), frames)
    assert said.shape == (frames,)
    assert said.dtype == np.float32
    assert np.sqrt(np.mean(said**2)) == pytest.approx(1, abs=1e-3)
    heard = record(said, generator(seed, "place"))
    assert heard.shape == (frames,)
    assert heard.dtype == np.float32
    assert np.abs(heard).max() <= 1
    assert -40 < 20 * np.log10(np.sqrt(np.mean(heard**2))) < -14


def test_a_shorter_vocal_tract_sounds_brighter_whatever_is_said() -> None:
    voice = draw_voice(generator(0, "voice"))
    long, short = (replace(voice, formant_scale=np.full(8, scale, np.float32)) for scale in (0.8, 1.25))
    for words in range(3):
        assert spectral_centre(short, words) > 1.1 * spectral_centre(long, words)


@pytest.mark.parametrize("pitch", [90.0, 220.0])
def test_pitch_is_the_voice_s(pitch: float) -> None:
    voice = replace(draw_voice(generator(0, "voice")), pitch=pitch, pitch_range=0.0, breath=0.0, tilt=-6.0)
    said = speak(voice, generator(1, "words"), 48000)
    power = np.abs(np.fft.rfft(said, 2 * len(said))) ** 2
    lags = np.fft.irfft(power)[: SAMPLE_RATE // 60]
    shortest = SAMPLE_RATE // 400
    found = SAMPLE_RATE / (shortest + np.argmax(lags[shortest:]))
    assert found == pytest.approx(pitch, rel=0.15)  # the utterance's own register moves it a little


@pytest.mark.parametrize(("exponent", "decibels_per_octave"), [(0.0, 0.0), (1.0, -3.0), (2.0, -6.0)])
def test_coloured_noise_falls_as_its_colour_says(exponent: float, decibels_per_octave: float) -> None:
    noise = coloured_noise(generator(0, "noise"), 160000, exponent)
    density = [band_energy(noise, low, 2 * low) / low for low in (250, 500, 1000, 2000)]
    slopes = np.diff(10 * np.log10(density))
    assert np.abs(slopes - decibels_per_octave).max() < 0.5


@pytest.mark.parametrize("kind", [*NOISES, "music"])
def test_noises_are_of_one_level(kind: str) -> None:
    make = {**NOISES, "music": music}[kind]
    signal = make(generator(2, kind), 32000)
    assert signal.shape == (32000,)
    assert signal.dtype == np.float32
    assert np.sqrt(np.mean(signal**2)) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seconds", [0.15, 0.8])
def test_a_room_decays_by_sixty_decibels_in_its_time(seconds: float) -> None:
    responses = np.stack([draw_room(generator(n, "room"), seconds) for n in range(20)])
    assert responses.shape == (20, int(seconds * SAMPLE_RATE))
    assert (np.abs(responses).max(axis=1) == 1).all()
    assert (responses[:, 0] == np.abs(responses).max(axis=1)).mean() > 0.5
    energy = (responses.astype(np.float64) ** 2).mean(axis=0)
    tail = np.arange(int(0.04 * SAMPLE_RATE), energy.size)
    slope = np.polyfit(tail / SAMPLE_RATE, 10 * np.log10(energy[tail] + 1e-15), 1)[0]
    assert slope == pytest.approx(-60 / seconds, rel=0.05)
