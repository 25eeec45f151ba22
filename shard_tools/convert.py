"""Any audio that libsndfile reads, made into what shards hold: 16 kHz, mono, 16-bit."""

from __future__ import annotations

import io
import math

import numpy as np
import numpy.typing as npt
import soundfile

from shard_tools.audio import SAMPLE_RATE, AudioError, reason

# libsndfile's count for a FLAC that does not say how long it is is near 2**63
_UNKNOWN_FRAMES = 2**62


def check_convertible(name: str) -> None:
    """Raise AudioError unless libsndfile recognises the file called `name` as audio."""
    try:
        soundfile.info(name)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: not audio that can be converted ({reason(error)})") from error


def convert(data: bytes, name: str) -> npt.NDArray[np.int16]:
    """Decode, average the channels, resample (polyphase), round to 16 bits; int16 (frames,).

    The same bytes give the same samples. Raises AudioError for what libsndfile cannot read or holds no audio.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            promised = file.frames if file.format == "FLAC" else 0
            rate = file.samplerate
            samples = file.read(dtype="float64", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: not audio that can be converted ({reason(error)})") from error
    if len(samples) < promised < _UNKNOWN_FRAMES:
        raise AudioError(f"{name}: truncated FLAC: {len(samples)} of {promised} frames are there")
    mono = samples.mean(axis=1)
    if rate != SAMPLE_RATE and len(mono):
        from scipy.signal import resample_poly  # takes a second to import, and most packs do not need it

        common = math.gcd(rate, SAMPLE_RATE)
        mono = resample_poly(mono, SAMPLE_RATE // common, rate // common)
    if len(mono) == 0:
        raise AudioError(f"{name}: holds no audio")
    if not np.isfinite(mono).all():
        raise AudioError(f"{name}: holds samples that are not numbers")
    return np.clip(np.rint(mono * 32768.0), -32768, 32767).astype(np.int16)
