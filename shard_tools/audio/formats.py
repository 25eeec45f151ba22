"""Audio files as bytes: what a header says, decoding, encoding, and the layout of PCM in a WAV.

The only audio that shards hold is 16 kHz, mono, 16-bit, as WAV or FLAC.
WAV headers are read here rather than by libsndfile, which takes a truncated
file for a shorter one; what it decodes must then be what the header's reader finds.
"""

from __future__ import annotations

import hashlib
import io
import struct

import numpy as np
import soundfile

from shard_tools.arrays import Float32Array, Int16Array
from shard_tools.audio.decoder import DECODER_ERRORS, ForwardFile, reason, require_no_more
from shard_tools.audio.flac_header import is_flac, read_stream_info
from shard_tools.audio.info import (
    SAMPLE_RATE,
    AudioError,
    AudioInfo,
    Codec,
    FormatError,
    Window,
    bytes_window,
    most_frames,
)
from shard_tools.audio.wav import is_wav, read_wav

_STEP = np.float32(1 / 32768)


def probe(data: bytes, name: str) -> AudioInfo:
    """Read the header of a whole WAV or FLAC file. `name` is for messages.

    Raises AudioError for data that is empty, shorter than its header says (of a FLAC only
    `decode` can tell), without a single frame, or whose header contradicts itself; FormatError for
    what is neither WAV nor FLAC or does not say how long it is.
    """
    return probe_window(bytes_window(data), len(data), name)


def probe_header(head: bytes, size: int, name: str) -> AudioInfo:
    """`probe`, given the first bytes of a file of `size` bytes: what these do not show counts as right."""
    return probe_window(bytes_window(head), size, name)


def probe_window(at: Window, size: int, name: str) -> AudioInfo:
    """`probe` of a file of `size` bytes that `at` looks into, which may be asked for few of them."""
    if size == 0:
        raise AudioError(f"{name}: empty file (0 bytes)")
    head = at(0, 12)
    if is_wav(head):
        wav = read_wav(at, size, name)
        if wav.flaw is not None:
            raise FormatError(f"{name}: {wav.flaw}")
        return wav.info()
    if is_flac(head):
        stream = read_stream_info(at, size, name)
        if stream.frames is None:
            raise FormatError(f"{name}: the FLAC header gives no length (written to a pipe?)")
        return AudioInfo(
            stream.frames, stream.sample_rate, stream.channels, f"PCM_{stream.bits}", "flac", None
        )
    raise FormatError(f"{name}: neither WAV nor FLAC (it begins with {head[:4]!r})")


def require_fit(info: AudioInfo, name: str) -> None:
    """Raise FormatError unless the audio is 16 kHz, mono, 16-bit."""
    if not info.fits:
        raise FormatError(f"{name}: {info.describe()}; needed is {SAMPLE_RATE} Hz, 1 channel, PCM_16")


def decode(data: bytes, name: str) -> Int16Array:
    """The audio of a whole WAV or FLAC file; int16 (frames,). `name` is for messages.

    Raises AudioError naming what was found unless it is 16 kHz, mono, 16-bit and complete: no
    sample missing and none left over, with the MD5 of its FLAC header, and at the place where the
    reader of its WAV header finds it.
    """
    info = probe(data, name)
    require_fit(info, name)
    if info.pcm_offset is not None:
        return _decode_wav(data, info.frames, info.pcm_offset, name)
    samples = decode_flac(data, info.frames, name)
    md5 = read_stream_info(bytes_window(data), len(data), name).md5
    if md5 is None:
        require_no_more(data, info.frames, name)
    elif _md5(samples) != md5:
        require_no_more(data, info.frames, name)
        raise AudioError(f"{name}: damaged FLAC: its audio has not the MD5 of its header")
    return samples


def decode_flac(data: bytes | bytearray, frames: int, name: str) -> Int16Array:
    """All `frames` frames of a FLAC file; int16 (frames,). AudioError when not all are there."""
    try:
        with ForwardFile(data) as file:
            most = min(frames, file.frames, most_frames(len(data), file.samplerate))
            samples: Int16Array = file.read(most, dtype="int16")
    except DECODER_ERRORS as error:
        raise AudioError(f"{name}: truncated or damaged FLAC ({reason(error)})") from error
    if samples.shape != (frames,):
        raise AudioError(f"{name}: truncated FLAC: frame {len(samples)} is missing")
    return samples


def encode(samples: Int16Array, codec: Codec) -> bytes:
    """A 16 kHz mono 16-bit WAV or FLAC file of int16 samples (frames,); equal samples give equal bytes."""
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"samples must be int16 (frames,), not {samples.dtype} {samples.shape}")
    if codec == "wav":
        pcm = samples.astype("<i2", copy=False).tobytes()
        form = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
        return (
            struct.pack("<4sI4s4sI", b"RIFF", 36 + len(pcm), b"WAVE", b"fmt ", len(form))
            + form
            + struct.pack("<4sI", b"data", len(pcm))
            + pcm
        )
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def wrap(samples: Int16Array, frames: int) -> Int16Array:
    """`samples` (n,) repeated at their end to int16 (frames,); `samples` as they are if n >= frames.

    As the VoxCeleb trainer's loadWAV pads: numpy.pad(…, mode="wrap").
    """
    if len(samples) >= frames:
        return samples
    return np.resize(samples, frames)


def to_float(samples: Int16Array) -> Float32Array:
    """int16 of any shape → float32 in [-1, 1) of the same shape: divided by 32768, as libsndfile does."""
    scaled = np.empty(samples.shape, np.float32)
    # Row by row: both passes over a row find it in the processor's cache, which a batch does not fit.
    for row, source in zip(np.atleast_2d(scaled), np.atleast_2d(samples), strict=True):
        put_float(row, source)
    return scaled


def put_float(row: Float32Array, samples: Int16Array) -> None:
    """Write to_float(samples) into `row`, float32 of the same shape."""
    np.copyto(row, samples)
    row *= _STEP


def _md5(samples: Int16Array) -> bytes:
    pcm: memoryview = samples.astype("<i2", copy=False).data
    return hashlib.md5(pcm, usedforsecurity=False).digest()


def _decode_wav(data: bytes, frames: int, pcm_offset: int, name: str) -> Int16Array:
    pcm = np.frombuffer(data, "<i2", frames, pcm_offset)
    try:
        with ForwardFile(data) as file:
            form = file.samplerate, file.channels, file.subtype
            samples: Int16Array = file.read(frames + 1, dtype="int16")
    except DECODER_ERRORS as error:
        raise FormatError(f"{name}: a WAV that libsndfile does not read ({reason(error)})") from error
    if form != (SAMPLE_RATE, 1, "PCM_16") or not np.array_equal(samples, pcm):
        raise AudioError(
            f"{name}: a WAV header that can be read in two ways: the {frames} frames at byte {pcm_offset} are"
            f" not what libsndfile finds ({form[0]} Hz, {form[1]} channels, {form[2]}, {len(samples)} frames)"
        )
    return samples
