"""How much of an utterance is silence, and how much of it was cut off at full scale."""

from __future__ import annotations

import numpy as np

from shard_tools.arrays import Int16Array

FRAME = 400
"""Samples whose level is looked at together: 25 ms, as of a front-end's frames."""
SILENCE_DB = -60.0
"""The root mean square below which a frame is silence, in dB of full scale (32768)."""
CLIPPED_RUN = 3
"""So many samples in a row at full scale were cut off there; one or two may be a loud sound's own peak."""

_SILENT_SQUARE = (32768.0 * 10 ** (SILENCE_DB / 20)) ** 2
_FULL = 32767


def silent_share(samples: Int16Array) -> float:
    """The share, from 0 to 1, of the 25 ms frames of int16 (n,) that are silence; the last may be shorter."""
    whole = len(samples) // FRAME
    frames = samples[: whole * FRAME].reshape(whole, FRAME).astype(np.float32)
    silent = int(np.count_nonzero(np.einsum("ij,ij->i", frames, frames) < _SILENT_SQUARE * FRAME))
    rest = samples[whole * FRAME :].astype(np.float32)
    silent += int(len(rest) > 0 and float(rest @ rest) < _SILENT_SQUARE * len(rest))
    return silent / max(whole + (len(rest) > 0), 1)


def clipped_share(samples: Int16Array) -> float:
    """The share, from 0 to 1, of the samples of int16 (n,) in runs of CLIPPED_RUN or more at full scale."""
    full = np.flatnonzero((samples >= _FULL) | (samples <= -_FULL))
    if len(full) < CLIPPED_RUN:
        return 0.0
    same_sign = (samples[full[1:]] > 0) == (samples[full[:-1]] > 0)
    begins = np.flatnonzero(np.concatenate([[True], (np.diff(full) > 1) | ~same_sign]))
    lengths = np.diff(begins, append=len(full))
    return int(lengths[lengths >= CLIPPED_RUN].sum()) / len(samples)
