"""A call over a narrow-band line: 300 to 3,400 Hz, 8,000 samples a second, 8 bits each by G.711.

The crop's spectrum is weighted by the band, turned back at half the rate, companded, and turned back at
the full rate; so nothing is left above 4 kHz, and the noise of the 8 bits lies below. The filter has no
delay: what a network is told of time stays true.

ITU-T G.711 (11/88), "Pulse code modulation (PCM) of voice frequencies": sign, three bits of exponent and
four of mantissa; μ-law takes 14 bits of a sample, A-law 13.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from shard_tools.arrays import Float32Array, Float64Array, Int64Array
from shard_tools.audio import SAMPLE_RATE
from train.augment.reverberate import TOGETHER, fft_length

LAWS = ("mulaw", "alaw")  # numbered in this order
_FULL_SCALE = 32768
# Hz: nothing below the first, all between the second and third, nothing above the last.
_EDGES = (200.0, 300.0, 3400.0, 3700.0)
# Seconds of silence at least behind a crop, into which the filter may ring: its edges are 100 Hz wide.
_RINGING = 0.02


@cache
def companded() -> Float32Array:
    """What comes back of each sample, float32 (2, 65536) in [-1, 1): by LAWS, then by int16's bits."""
    samples = np.arange(2 * _FULL_SCALE).astype(np.uint16).view(np.int16).astype(np.int64)
    magnitude, sign = np.abs(samples), np.where(samples < 0, -1, 1)
    table = np.stack([sign * _mu_law(magnitude), sign * _a_law(magnitude)])
    return (table / _FULL_SCALE).astype(np.float32)


def _mu_law(magnitude: Int64Array) -> Int64Array:
    """What comes back of magnitudes of int16 samples; the bias of 33, of 14 bits, opens the first segment."""
    biased = np.minimum(magnitude // 4, 8158) + 33
    exponent = np.floor(np.log2(biased)).astype(np.int64) - 5
    return 4 * (_middle(biased, exponent + 1) - 33)


def _a_law(magnitude: Int64Array) -> Int64Array:
    """The same by A-law, of 13 bits with the sign; the first two segments have the same steps."""
    short = np.minimum(magnitude // 16, 2047) * 2 + 1  # in halves, so that a middle is a whole number
    exponent = np.maximum(np.floor(np.log2(short)).astype(np.int64) - 5, 0)
    return 8 * _middle(short, exponent + 1)


def _middle(value: Int64Array, bits: Int64Array) -> Int64Array:
    """The middle of the interval of 2**bits numbers in which each value lies."""
    return (value >> bits << bits) + (1 << bits >> 1)


def points_for(frames: int) -> int:
    """Points of the spectra of crops of `frames` samples; a multiple of 4."""
    return max(fft_length(frames + int(_RINGING * SAMPLE_RATE)), 4)


@cache
def band(points: int) -> Float32Array:
    """The line's gain from 0 to 4 kHz, float32 (points // 4 + 1,): raised cosines between the edges."""
    frequency = np.arange(points // 4 + 1, dtype=np.float64) * (SAMPLE_RATE / points)
    low, full, until, high = _EDGES
    gain = _rise((frequency - low) / (full - low)) * _rise((high - frequency) / (high - until))
    return gain.astype(np.float32)


def _rise(share: Float64Array) -> Float64Array:
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.clip(share, 0.0, 1.0)), np.float64)


def call(audio: Float32Array, rows: Int64Array, laws: Int64Array) -> None:
    """Send `audio[rows[i]]` over a line of law `laws[i]` (number in LAWS), in place; audio: (B, frames).

    What a row becomes depends on it alone, bit for bit: transforms are made of always as many rows, see
    Reverberator.
    """
    from scipy import fft  # at the start of every program it would take a fifth of a second

    frames = audio.shape[1]
    points = points_for(frames)
    gain, table = band(points), companded()
    padded = np.zeros((TOGETHER, points), np.float32)
    for first in range(0, len(rows), TOGETHER):
        these = rows[first : first + TOGETHER].tolist()
        for lane, row in zip(padded, these, strict=False):
            lane[:frames] = audio[row]
        narrow = fft.rfft(padded)[:, : len(gain)]
        narrow *= gain
        line = fft.irfft(narrow, points // 2, overwrite_x=True)  # twice too loud, for half the points
        line *= _FULL_SCALE / 2
        np.rint(line, out=line)
        np.clip(line, -_FULL_SCALE, _FULL_SCALE - 1, out=line)
        samples = line.astype(np.int16).view(np.uint16)
        for lane, one, law in zip(line, samples, laws[first : first + TOGETHER].tolist(), strict=False):
            lane[:] = table[law].take(one)
        spectra = fft.rfft(line, overwrite_x=True)
        spectra[:, -1] *= 0.5  # at 4 kHz, from where on there are two of it
        heard = fft.irfft(spectra, points, overwrite_x=True)
        heard *= 2.0
        for lane, row in zip(heard, these, strict=False):
            audio[row] = lane[:frames]
