"""Convolution with room impulse responses by FFT, float32, spectra kept under a byte budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Float32Array, Int64Array

# Rows that are transformed together, always so many. pocketfft works on four rows at once in the lanes of a
# SIMD register, in little more time than on one; where fewer are left, the lanes besides theirs do not count.
TOGETHER = 4


def fft_length(frames: int) -> int:
    """The smallest of 2**k and 3 * 2**k that is at least `frames`.

    Radix-2 and one radix-3 pass ran faster here than the tighter sizes of scipy's next_fast_len.
    """
    power = 1 << max(frames - 1, 1).bit_length()
    three_quarters = power // 4 * 3
    return three_quarters if three_quarters >= frames else power


def unit_energy(response: Float32Array) -> Float32Array:
    """The impulse response (taps,) scaled to a sum of squares of 1; a silent one is returned as it is."""
    energy = float(np.square(response, dtype=np.float64).sum())
    return response if energy == 0.0 else (response / np.sqrt(energy)).astype(np.float32)


class Reverberator:
    """Convolves crops of up to `frames` audio frames with numbered impulse responses.

    load(i) → float32 (taps,), the i-th response. The output is as much of the full convolution
    with the response at unit energy as the crop is long, as the VoxCeleb trainer's: taps
    beyond `frames` cannot be heard there and are dropped. Shorter crops take the same transforms, so
    that a response has one spectrum.
    """

    def __init__(
        self, load: Callable[[int], Float32Array], frames: int, longest: int, cache_bytes: int
    ) -> None:
        self._load = load
        self._frames = frames
        self._points = fft_length(frames + min(longest, frames) - 1)
        self._cache_bytes = cache_bytes
        self._spectra: OrderedDict[int, npt.NDArray[np.complex64]] = OrderedDict()
        self._held = 0

    def __call__(self, audio: Float32Array, rows: Int64Array, responses: Int64Array) -> None:
        """Convolve `audio[rows[i]]` with response `responses[i]`, in place; audio: float32 (B, length)."""
        from scipy import fft  # at the start of every program it would take a fifth of a second

        frames = audio.shape[1]
        padded = np.zeros((TOGETHER, self._points), np.float32)
        for first in range(0, len(rows), TOGETHER):
            these = rows[first : first + TOGETHER].tolist()
            for lane, row in zip(padded, these, strict=False):
                lane[:frames] = audio[row]
            spectra = fft.rfft(padded)
            for spectrum, response in zip(
                spectra, responses[first : first + TOGETHER].tolist(), strict=False
            ):
                spectrum *= self._spectrum(response)
            wet = fft.irfft(spectra, self._points, overwrite_x=True)
            for lane, row in zip(wet, these, strict=False):
                audio[row] = lane[:frames]

    def _spectrum(self, response: int) -> npt.NDArray[np.complex64]:
        found = self._spectra.get(response)
        if found is not None:
            self._spectra.move_to_end(response)
            return found
        from scipy import fft

        taps = unit_energy(self._load(response))[: self._frames]
        made: npt.NDArray[np.complex64] = fft.rfft(taps, self._points)
        self._spectra[response] = made
        self._held += made.nbytes
        while self._held > self._cache_bytes and len(self._spectra) > 1:
            self._held -= self._spectra.popitem(last=False)[1].nbytes
        return made
