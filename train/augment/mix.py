"""Adding noise at a signal-to-noise ratio. Arrays in, arrays out; float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# The VoxCeleb trainer's floor under a clip's mean power, for samples in [-1, 1):
# digital silence then gets noise of a finite level, and silent noise is not blown up.
POWER_FLOOR = np.float32(1e-4)


def mean_power(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Mean square of each row plus POWER_FLOOR; audio (rows, frames) float32 → (rows,) float32.

    Row by row, so that a row's result does not depend on how many there are.
    """
    # einsum, and not a BLAS dot product, whose sum depends on how many threads it is given.
    powers = np.array([np.einsum("i,i->", row, row) for row in audio], dtype=np.float32)
    return powers / np.float32(audio.shape[1]) + POWER_FLOOR


def add_at_snr(
    audio: npt.NDArray[np.float32],
    rows: npt.NDArray[np.int64],
    clips: npt.NDArray[np.float32],
    snr: npt.NDArray[np.float64],
) -> None:
    """Add clip i to `audio[rows[i]]`, in place, `snr[i]` dB below the power that the row had on entry.

    audio: (B, frames); rows: (M,) ascending, with repeats where a row gets several clips
    (babble: each at its own ratio to the clean speech); clips: (M, frames), overwritten.
    """
    treated, which = np.unique(rows, return_inverse=True)
    clean = mean_power(audio[treated])[which]
    gains = np.sqrt(clean / mean_power(clips) * 10.0 ** (-snr / 10.0)).astype(np.float32)
    for row, clip, gain in zip(rows, clips, gains, strict=True):
        clip *= gain
        audio[row] += clip
