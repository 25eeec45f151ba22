"""Adding noise at a signal-to-noise ratio. Arrays in, arrays out; float32."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from shard_tools.arrays import Float32Array, Float64Array, Int16Array, Int64Array

# The VoxCeleb trainer's floor under a clip's mean power, for samples in [-1, 1):
# digital silence then gets noise of a finite level, and silent noise is not blown up.
POWER_FLOOR = 1e-4

_SCALE = 2.0**-15  # int16 to [-1, 1)


def mean_power(row: Float32Array) -> float:
    """Mean square of a row (frames,) plus POWER_FLOOR.

    einsum, and not a BLAS dot product, whose sum depends on how many threads it is given.
    """
    return float(np.einsum("i,i->", row, row)) / len(row) + POWER_FLOOR


def add_at_snr(
    audio: Float32Array,
    rows: Int64Array,
    clips: Iterable[Int16Array],
    snr: Float64Array,
) -> None:
    """Add clip i to `audio[rows[i]]`, in place, `snr[i]` dB below the power that the row had on entry.

    audio: (B, frames); rows: (M,) ascending, with repeats where a row gets several clips
    (babble: each at its own ratio to the clean speech); clips: M of (frames,), used in their order.
    """
    ratios = 10.0 ** (-snr / 10.0)
    # One clip at a time through a buffer that stays in the processor's cache, as a row does for its clips.
    sound = np.empty(audio.shape[1], dtype=np.float32)
    treated, clean = -1, 0.0
    for row, clip, ratio in zip(rows.tolist(), clips, ratios.tolist(), strict=True):
        if row != treated:
            treated, clean = row, mean_power(audio[row])
        np.copyto(sound, clip)
        power = float(np.einsum("i,i->", sound, sound)) * _SCALE**2 / len(sound) + POWER_FLOOR
        sound *= np.float32(math.sqrt(clean * ratio / power) * _SCALE)
        audio[row] += sound
