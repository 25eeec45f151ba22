"""Adding noise at a signal-to-noise ratio. Arrays in, arrays out; float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The VoxCeleb trainer's floor under a clip's mean power, for samples in [-1, 1):
# digital silence then gets noise of a finite level, and silent noise is not blown up.
POWER_FLOOR = np.float32(1e-4)


# int16 to [-1, 1). A power of two, so that scaling before or after a sum gives the same bits.
_SCALE = np.float32(2.0**-15)


def mean_power(row: npt.NDArray[np.float32]) -> np.float32:
    """Mean square of a row (frames,) plus POWER_FLOOR.

    einsum, and not a BLAS dot product, whose sum depends on how many threads it is given.
    """
    return np.float32(np.einsum("i,i->", row, row)) / np.float32(len(row)) + POWER_FLOOR


def add_at_snr(
    audio: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    clips: npt.NDArray[np.int16],
    snr: npt.NDArray[np.float64],
) -> None:
    """Add clip i to `audio[rows[i]]`, in place, `snr[i]` dB below the power that the row had on entry.

    audio: (B, frames); rows: (M,) ascending, with repeats where a row gets several clips
    (babble: each at its own ratio to the clean speech); clips: (M, frames).
    """
    treated, which = np.unique(rows, return_inverse=True)
    clean = np.array([mean_power(audio[row]) for row in treated], dtype=np.float32)[which]
    ratio = 10.0 ** (-snr / 10.0)
    # One clip at a time through a buffer that stays in the processor's cache.
    sound = np.empty(audio.shape[1], dtype=np.float32)
    for row, clip, wanted in zip(rows, clips, clean * ratio, strict=True):
        np.copyto(sound, clip)
        power = np.float32(np.einsum("i,i->", sound, sound)) * _SCALE**2 / np.float32(len(sound))
        sound *= np.float32(np.sqrt(wanted / (power + POWER_FLOOR))) * _SCALE
        audio[row] += sound
