"""Synthetic voices, noises and rooms: signals to train on where no recordings are at hand.

A voice is a source-filter synthesiser (Fant, "Acoustic Theory of Speech
Production", 1960; the cascade of resonances follows Klatt, "Software for a
cascade/parallel formant synthesizer", JASA 1980), run on short-time spectra:
a pulse train and noise are shaped, frame by frame, by an envelope made of
formants. It is not intelligible and need not be. What matters is that who
speaks (length of the vocal tract, place of each formant, pitch, tilt,
breathiness) is independent of what is said and of how it was recorded
(microphone, room, background, level), so that only the voice tells speakers
apart.

All signals are float32 at 16 kHz and are pure functions of their arguments
and of the generator's state.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from shard_tools.arrays import Float32Array
from shard_tools.audio import SAMPLE_RATE

_WINDOW, _HOP = 512, 128
_TAPER = np.sqrt(np.hanning(_WINDOW + 1)[:-1]).astype(np.float32)
_BINS = np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE).astype(np.float32)

# Rough first three formants in Hz of an average adult, as phoneticians' tables give them.
_VOWELS = np.array(
    [
        (280, 2250, 2950),
        (400, 2050, 2650),
        (560, 1850, 2550),
        (700, 1650, 2450),
        (750, 1250, 2500),
        (600, 950, 2500),
        (450, 800, 2500),
        (320, 850, 2300),
        (300, 1700, 2200),
        (500, 1500, 2500),
        (330, 1250, 1650),
        (350, 1050, 2800),
    ],
    dtype=np.float32,
)
_HIGHER_FORMANTS = np.array([3500, 4500, 5500, 6500, 7500], dtype=np.float32)
_BANDWIDTHS = np.array([60, 80, 120, 180, 220, 300, 350, 400], dtype=np.float32)
_FRICATIVES = np.array(
    [(6200, 900), (3600, 700), (4500, 2500), (1500, 900)], dtype=np.float32
)  # centre, width

Signal = Float32Array


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator of its own for each purpose ("speaker", 12, …) of a seed, whatever else is drawn."""
    return np.random.Generator(np.random.Philox(key=[seed, zlib.crc32(repr(purpose).encode())]))


@dataclass(frozen=True)
class Voice:
    """What stays the same whenever one speaker speaks."""

    formant_scale: Float32Array  # (8,): vocal-tract length times each formant's own deviation
    pitch: float  # Hz, median
    pitch_range: float  # standard deviation of log pitch
    tilt: float  # dB per octave above 500 Hz, negative
    breath: float  # noise in the source, relative to the pulses
    rate: float  # phones per second, relative to the average


def draw_voice(random: np.random.Generator) -> Voice:
    """A speaker. Pitch and vocal-tract length go together, loosely, as between men, women and children."""
    size = random.uniform(-1, 1)
    tract = np.exp(0.16 * size + random.normal(0, 0.08))
    return Voice(
        formant_scale=(tract * np.exp(random.normal(0, 0.1, 8))).astype(np.float32),
        pitch=float(np.exp(np.log(150) + 0.42 * size + random.normal(0, 0.25))),
        pitch_range=float(random.uniform(0.05, 0.2)),
        tilt=float(random.uniform(-14, -5)),
        breath=float(np.exp(random.uniform(np.log(0.02), np.log(0.4)))),
        rate=float(np.exp(random.normal(0, 0.1))),
    )


def _smooth(tracks: npt.NDArray[np.floating], width: int) -> Float32Array:
    """Moving average with a Hann window of `width` frames along axis 0, ends repeated; same shape."""
    kernel = np.hanning(width + 2)[1:-1]
    half = width // 2
    columns = np.pad(tracks.reshape(len(tracks), -1), ((half, half), (0, 0)), mode="edge")
    smoothed = [np.convolve(column, kernel / kernel.sum(), mode="valid") for column in columns.T]
    return np.stack(smoothed, axis=1).reshape(tracks.shape).astype(np.float32)


def _short_time(signal: npt.NDArray[np.floating]) -> npt.NDArray[np.complex64]:
    """(frames,) → (spectra, bins)."""
    windows = np.lib.stride_tricks.sliding_window_view(signal.astype(np.float32), _WINDOW)[::_HOP]
    return scipy.fft.rfft(windows * _TAPER, axis=1)


def _overlap_add(spectra: npt.NDArray[np.complex64]) -> Signal:
    """(spectra, bins) → (frames,); the inverse of `_short_time` but for a constant gain."""
    windows = scipy.fft.irfft(spectra, axis=1) * _TAPER
    parts = _WINDOW // _HOP
    signal = np.zeros((len(windows) + parts - 1, _HOP), dtype=np.float32)
    for part in range(parts):
        signal[part : part + len(windows)] += windows[:, part * _HOP : (part + 1) * _HOP]
    return signal.ravel()


def speak(voice: Voice, random: np.random.Generator, frames: int) -> Signal:
    """What `voice` says, close and clean: float32 (frames,), RMS 1. Words and rhythm come from `random`."""
    steps = frames // _HOP + 1  # one envelope for every 8 ms
    count = int(steps * _HOP / SAMPLE_RATE * 14) + 8
    rate = voice.rate * np.exp(random.normal(0, 0.15))
    kind = random.choice(3, count, p=[0.72, 0.18, 0.1])  # vowel, fricative, pause
    mean_length = np.array([0.11, 0.08, 0.12])[kind] / rate
    lengths = np.maximum(3, mean_length * np.exp(random.normal(0, 0.35, count)) * SAMPLE_RATE / _HOP).astype(
        int
    )
    phone = np.repeat(np.arange(count), lengths)
    phone = np.resize(phone, steps)

    if (kind[phone] == 2).all():  # what is as short as a pause is a vowel then
        kind = np.zeros_like(kind)

    formants = np.empty((count, 8), dtype=np.float32)
    formants[:, :3] = _VOWELS[random.integers(len(_VOWELS), size=count)] * np.exp(
        random.normal(0, 0.03, (count, 3))
    )
    formants[:, 3:] = _HIGHER_FORMANTS
    track = _smooth((formants * voice.formant_scale)[phone], 9)
    voiced = _smooth(((kind == 0) * np.exp(random.normal(0, 0.3, count)))[phone], 5)
    hiss = _smooth(((kind == 1) * np.exp(random.normal(0, 0.4, count)))[phone], 3)

    # Pitch: the utterance's own register, a fall along each phrase, and slow wandering.
    wander = _smooth(random.normal(0, 1, steps), 41)
    wander *= voice.pitch_range / max(float(wander.std()), 1e-3)
    phrase = random.uniform(1.0, 2.5) * SAMPLE_RATE / _HOP
    fall = voice.pitch_range * (0.5 - (np.arange(steps) / phrase + random.uniform()) % 1.0)
    pitch = voice.pitch * np.exp(random.normal(0, 0.04) + wander + fall)
    length = (steps - 1) * _HOP + _WINDOW
    cycles = np.cumsum(np.interp(np.arange(length) / _HOP, np.arange(steps), pitch)) / SAMPLE_RATE
    closures = np.interp(np.arange(1, int(cycles[-1])), cycles, np.arange(length))
    pulses = np.zeros(length + 1)
    whole = closures.astype(int)
    strength = np.exp(random.normal(0, 0.08, len(whole)))  # shimmer
    np.add.at(pulses, whole, strength * (1 - (closures - whole)))
    np.add.at(pulses, whole + 1, strength * (closures - whole))
    pulses *= np.sqrt(SAMPLE_RATE / voice.pitch)  # as strong as white noise of RMS 1

    noise = random.standard_normal(length)
    source, white = _short_time(pulses[:length]), _short_time(noise)
    frequency = _BINS[None, :]
    tilt = 10 ** (voice.tilt / 20 * np.log2(np.maximum(_BINS, 500) / 500))
    envelope = np.ones((steps, len(_BINS)), dtype=np.float32)
    for k, bandwidth in enumerate(_BANDWIDTHS):
        centre = track[:, k : k + 1]
        envelope *= centre**2 / np.sqrt((centre**2 - frequency**2) ** 2 + (bandwidth * frequency) ** 2)
    envelope *= voiced[:, None] * tilt
    shape = _FRICATIVES[random.integers(len(_FRICATIVES), size=count)]
    centre, width = (_smooth(shape[phone], 5) * voice.formant_scale[-1:]).T[:, :, None]
    frication = 0.35 * hiss[:, None] * np.exp(-0.5 * ((frequency - centre) / width) ** 2)
    said = _overlap_add(envelope * (source + voice.breath * white) + frication * white)[:frames]
    return said / max(float(np.sqrt(np.mean(said**2))), 1e-6)


def draw_room(random: np.random.Generator, reverberation_time: float) -> Signal:
    """An impulse response: direct sound at frame 0, a few early reflections, an exponential tail.

    reverberation_time: seconds to −60 dB, also the length. Returns float32 (frames,), peak 1.
    """
    frames = max(int(reverberation_time * SAMPLE_RATE), 64)
    time = np.arange(frames) / SAMPLE_RATE
    onset = np.clip(time / 0.02, 0, 1)  # the tail builds up as reflections become dense
    response = random.normal(0, 0.06, frames) * onset * 10 ** (-3 * time / reverberation_time)
    arrivals = random.uniform(0.001, 0.03, random.integers(3, 9))
    gains = (
        random.uniform(0.2, 0.7, len(arrivals))
        * np.exp(-arrivals / 0.02)
        * random.choice([-1, 1], len(arrivals))
    )
    np.add.at(response, np.minimum((arrivals * SAMPLE_RATE).astype(int), frames - 1), gains)
    response[0] = 1.0
    return (response / np.abs(response).max()).astype(np.float32)


def record(said: Signal, random: np.random.Generator) -> Signal:
    """`said` as a microphone somewhere took it: room, equaliser, band limits, background noise, level.

    said: float32 (frames,). Returns float32 (frames,) within [-1, 1]; RMS between about −38 and −16 dBFS.
    """
    frames = len(said)
    room = draw_room(random, float(random.uniform(0.05, 0.35)))
    points = scipy.fft.next_fast_len(frames + len(room), real=True)
    frequency = scipy.fft.rfftfreq(points, 1 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 60) / 60)
    knots = np.linspace(0, octave[-1], 8)
    gain = np.interp(octave, knots, random.normal(0, 4, 8)) + random.uniform(-3, 3) * (octave - 4)
    low, high = random.uniform(40, 200), random.uniform(4000, 8000)
    gain -= 12 * np.clip(np.log2(low / np.maximum(frequency, 10)), 0, 4)
    gain -= 36 * np.clip(np.log2(np.maximum(frequency, 10) / high), 0, 2)
    spectrum = scipy.fft.rfft(said, points) * scipy.fft.rfft(room, points) * 10 ** (gain / 20)
    heard = scipy.fft.irfft(spectrum, points)[:frames]
    heard /= max(float(np.sqrt(np.mean(heard**2))), 1e-6)
    background = coloured_noise(random, frames, float(random.uniform(0, 2)))
    heard += 10 ** (-random.uniform(18, 40) / 20) * background
    return np.clip(heard * 10 ** (random.uniform(-36, -18) / 20), -1, 1).astype(np.float32)


def coloured_noise(random: np.random.Generator, frames: int, exponent: float) -> Signal:
    """Noise of RMS 1 whose power falls as frequency to the −`exponent`: 0 white, 1 pink, 2 brown."""
    points = scipy.fft.next_fast_len(frames, real=True)
    spectrum = random.standard_normal((2, points // 2 + 1))
    frequency = np.maximum(scipy.fft.rfftfreq(points, 1 / SAMPLE_RATE), 20)
    noise = scipy.fft.irfft((spectrum[0] + 1j * spectrum[1]) * frequency ** (-exponent / 2), points)[:frames]
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def hum(random: np.random.Generator, frames: int) -> Signal:
    """Mains or a motor: harmonics of a low tone that drifts a little, over brown noise; RMS 1."""
    tone = random.choice([50.0, 60.0, random.uniform(70, 140)])
    phase = 2 * np.pi * np.cumsum(tone * (1 + 0.002 * coloured_noise(random, frames, 2))) / SAMPLE_RATE
    harmonics = np.arange(1, 25)
    strength = random.uniform(0, 1, 24) / harmonics
    signal = np.sum(strength[:, None] * np.sin(harmonics[:, None] * phase), axis=0)
    signal = signal / signal.std() + 0.3 * coloured_noise(random, frames, 2)
    return (signal / signal.std()).astype(np.float32)


def clatter(random: np.random.Generator, frames: int) -> Signal:
    """Dishes, keys, footsteps: struck resonances at random moments, over faint pink noise; RMS 1."""
    signal = 0.05 * coloured_noise(random, frames, 1)
    for start in random.integers(frames, size=max(4, frames // 4000)):
        time = np.arange(min(4800, frames - start)) / SAMPLE_RATE
        for resonance in np.exp(random.uniform(np.log(300), np.log(6000), 3)):
            struck = np.sin(2 * np.pi * resonance * time) * np.exp(-time / random.uniform(0.005, 0.06))
            signal[start : start + len(time)] += random.uniform(0.2, 1) * struck.astype(np.float32)
    return signal / signal.std()


def music(random: np.random.Generator, frames: int) -> Signal:
    """Chords of decaying harmonic tones, one after the other; RMS 1. No melody to speak of."""
    signal = np.zeros(frames, dtype=np.float32)
    beat = int(random.uniform(0.25, 0.8) * SAMPLE_RATE)
    root, decay = random.uniform(90, 220), random.uniform(0.2, 0.9)
    for start in range(0, frames, beat):
        time = np.arange(min(2 * beat, frames - start)) / SAMPLE_RATE
        for semitones in random.choice([0, 2, 4, 5, 7, 9, 11], 3, replace=False) + random.choice([0, 12], 3):
            partials = root * 2 ** (semitones / 12) * np.arange(1, 7)[:, None]
            tone = np.sum(np.sin(2 * np.pi * partials * time) / np.arange(1, 7)[:, None], axis=0)
            signal[start : start + len(time)] += (tone * np.exp(-time / decay)).astype(np.float32)
    return signal / signal.std()


NOISES: dict[str, Callable[[np.random.Generator, int], Signal]] = {
    "white": lambda random, frames: coloured_noise(random, frames, 0.0),
    "pink": lambda random, frames: coloured_noise(random, frames, 1.0),
    "brown": lambda random, frames: coloured_noise(random, frames, 2.0),
    "hum": hum,
    "clatter": clatter,
}
