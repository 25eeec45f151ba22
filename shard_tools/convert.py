"""Any audio that libsndfile reads, made into what shards hold: 16 kHz, mono, 16-bit."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
import soundfile
from scipy.signal import resample_poly

from shard_tools.audio import SAMPLE_RATE, AudioError


def convert(data: bytes, name: str) -> npt.NDArray[np.int16]:
    """Decode, average the channels, resample (polyphase), round to 16 bits; int16 (frames,).

    The same bytes give the same samples. Raises AudioError for what libsndfile cannot read or holds no audio.
    """
    if not data:
        raise AudioError(f"{name}: empty file (0 bytes)")
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float64", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: not audio that can be converted ({error})") from error
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE and len(mono):
        common = math.gcd(rate, SAMPLE_RATE)
        mono = resample_poly(mono, SAMPLE_RATE // common, rate // common)
    if len(mono) == 0:
        raise AudioError(f"{name}: holds no audio")
    if not np.isfinite(mono).all():
        raise AudioError(f"{name}: holds samples that are not numbers")
    return np.clip(np.rint(mono * 32768.0), -32768, 32767).astype(np.int16)
