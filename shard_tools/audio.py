"""Audio files as bytes: what a header says, decoding, encoding, and the layout of PCM in a WAV.

The only audio that shards hold is 16 kHz, mono, 16-bit, as WAV or FLAC.
WAV headers are read here rather than by libsndfile, which takes a truncated
file for a shorter one.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import soundfile

from shard_tools.errors import UserError

SAMPLE_RATE = 16000
HEADER_BYTES = 4096  # enough of a file for `probe_header` in all but freak cases

Codec = Literal["wav", "flac"]

_WAVE_PCM, _WAVE_EXTENSIBLE = 1, 0xFFFE
_WAVE_NAMES = {2: "ADPCM", 3: "FLOAT", 6: "ALAW", 7: "ULAW"}
_STEP = np.float32(1 / 32768)
_LENGTH_UNKNOWN = 0xFFFFFFFF


class AudioError(UserError):
    """A file or utterance is not the audio that it should be; the text names it and what was found."""


class FormatError(AudioError):
    """Not what shards hold as it is, but perhaps audio that can be converted."""


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio file says.

    frames: number of sample frames; subtype: "PCM_16", "PCM_24", "FLOAT" …;
    pcm_offset: byte offset in the file of the first frame when it is 16-bit PCM WAV, else None.
    """

    frames: int
    sample_rate: int
    channels: int
    subtype: str
    codec: Codec
    pcm_offset: int | None

    @property
    def fits(self) -> bool:
        """Whether shards can hold it as it is."""
        return (self.sample_rate, self.channels, self.subtype) == (SAMPLE_RATE, 1, "PCM_16")

    def describe(self) -> str:
        """For example "8000 Hz, 2 channels, PCM_16"."""
        return f"{self.sample_rate} Hz, {self.channels} channel{'s' * (self.channels != 1)}, {self.subtype}"


def probe(data: bytes, name: str) -> AudioInfo:
    """Read the header of a whole WAV or FLAC file. `name` is for messages.

    Raises AudioError for data that is empty, neither WAV nor FLAC, shorter than
    its header says (of a FLAC only `decode` can tell), or without a single frame.
    """
    return probe_header(data, len(data), name)


def probe_header(head: bytes, size: int, name: str) -> AudioInfo:
    """`probe`, given the first bytes of a file of `size` bytes (HEADER_BYTES of them, or all)."""
    if size == 0:
        raise AudioError(f"{name}: empty file (0 bytes)")
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        info = _probe_wav(head, size, name)
    elif head[:4] == b"fLaC":
        info = _probe_flac(head, name)
    else:
        raise FormatError(f"{name}: neither WAV nor FLAC (it begins with {head[:4]!r})")
    if info.frames == 0:
        raise AudioError(f"{name}: a {info.codec.upper()} header without any audio")
    return info


def require_fit(info: AudioInfo, name: str) -> None:
    """Raise FormatError unless the audio is 16 kHz, mono, 16-bit."""
    if not info.fits:
        raise FormatError(f"{name}: {info.describe()}; needed is {SAMPLE_RATE} Hz, 1 channel, PCM_16")


def decode(data: bytes, name: str) -> npt.NDArray[np.int16]:
    """The audio of a whole WAV or FLAC file; int16 (frames,). `name` is for messages.

    Raises AudioError naming what was found unless it is 16 kHz, mono, 16-bit and complete.
    """
    info = probe(data, name)
    require_fit(info, name)
    if info.pcm_offset is None:
        return decode_flac(data, info.frames, name)
    return np.frombuffer(data, "<i2", info.frames, info.pcm_offset).astype(np.int16)


def decode_flac(data: bytes | bytearray, frames: int, name: str) -> npt.NDArray[np.int16]:
    """All `frames` frames of a FLAC file; int16 (frames,). AudioError when not all are there."""
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            samples: npt.NDArray[np.int16] = file.read(frames, dtype="int16")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(f"{name}: truncated or damaged FLAC ({reason(error)})") from error
    if samples.shape != (frames,):
        raise AudioError(f"{name}: truncated FLAC: frame {len(samples)} is missing")
    return samples


def encode(samples: npt.NDArray[np.int16], codec: Codec) -> bytes:
    """A 16 kHz mono 16-bit WAV or FLAC file of int16 samples (frames,); equal samples give equal bytes."""
    if samples.dtype != np.int16 or samples.ndim != 1:
        raise ValueError(f"samples must be int16 (frames,), not {samples.dtype} {samples.shape}")
    if codec == "wav":
        pcm = samples.astype("<i2", copy=False).tobytes()
        form = struct.pack("<HHIIHH", _WAVE_PCM, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
        return (
            struct.pack("<4sI4s4sI", b"RIFF", 36 + len(pcm), b"WAVE", b"fmt ", len(form))
            + form
            + struct.pack("<4sI", b"data", len(pcm))
            + pcm
        )
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def wrap(samples: npt.NDArray[np.int16], frames: int) -> npt.NDArray[np.int16]:
    """`samples` (n,) repeated at their end to int16 (frames,); `samples` as they are if n >= frames.

    As the VoxCeleb trainer's loadWAV pads: numpy.pad(…, mode="wrap").
    """
    if len(samples) >= frames:
        return samples
    return np.resize(samples, frames)


def to_float(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """int16 of any shape → float32 in [-1, 1) of the same shape: divided by 32768, as libsndfile does."""
    scaled = np.empty(samples.shape, np.float32)
    # Row by row: both passes over a row find it in the processor's cache, which a batch does not fit.
    for row, source in zip(np.atleast_2d(scaled), np.atleast_2d(samples), strict=True):
        put_float(row, source)
    return scaled


def put_float(row: npt.NDArray[np.float32], samples: npt.NDArray[np.int16]) -> None:
    """Write to_float(samples) into `row`, float32 of the same shape."""
    np.copyto(row, samples)
    row *= _STEP


def reason(error: Exception) -> str:
    """libsndfile's words without "Error : " and the full stop."""
    return str(error).rpartition(": ")[2].rstrip(".")


def _probe_wav(head: bytes, size: int, name: str) -> AudioInfo:
    form: tuple[int, int, int, int, int] | None = None
    position = 12
    while position + 8 <= len(head):
        tag, length = struct.unpack_from("<4sI", head, position)
        body = position + 8
        if tag == b"fmt " and body + 16 <= len(head):
            kind, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", head, body)
            if kind == _WAVE_EXTENSIBLE and length >= 26 and body + 26 <= len(head):
                (kind,) = struct.unpack_from("<H", head, body + 24)
            form = kind, channels, rate, align, bits
        elif tag == b"data":
            if form is None:
                raise AudioError(f"{name}: a WAV whose data comes before its format")
            kind, channels, rate, align, bits = form
            if length == _LENGTH_UNKNOWN:
                raise FormatError(f"{name}: the WAV header gives no length (written to a pipe?)")
            if body + length > size:
                raise AudioError(
                    f"{name}: truncated: {length} bytes of audio in the WAV header, {size - body} in the file"
                )
            if channels == 0 or align == 0:
                raise AudioError(f"{name}: a broken WAV header ({channels} channels, {align} bytes a frame)")
            subtype = f"PCM_{bits}" if kind == _WAVE_PCM else _WAVE_NAMES.get(kind, f"WAV format {kind}")
            pcm = subtype == "PCM_16" and align == 2 * channels
            return AudioInfo(length // align, rate, channels, subtype, "wav", body if pcm else None)
        position = body + length + (length & 1)
    if position + 8 > size:
        raise AudioError(f"{name}: truncated: the WAV ends after {size} bytes, before any audio")
    raise AudioError(f"{name}: no audio within the first {len(head)} bytes of the WAV")


def _probe_flac(head: bytes, name: str) -> AudioInfo:
    """STREAMINFO comes first: 4 bytes of block header after the magic, then RFC 9639 section 8.2."""
    if len(head) < 42 or head[4] & 0x7F != 0:
        raise AudioError(f"{name}: truncated or broken FLAC header")
    packed = int.from_bytes(head[18:26], "big")
    rate, channels, bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    frames = packed & (1 << 36) - 1
    if frames == 0:
        raise FormatError(f"{name}: the FLAC header gives no length (written to a pipe?)")
    return AudioInfo(frames, rate, channels, f"PCM_{bits}", "flac", None)
