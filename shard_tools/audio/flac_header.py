"""What a FLAC file says of itself before its first frame (RFC 9639, section 8), and the MD5 of its audio."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from shard_tools.arrays import Int32Array
from shard_tools.audio.info import AudioError, Window, most_frames, require_rate

_STREAMINFO = 42  # bytes to the end of the block that comes first
_LENGTH = slice(21, 26)  # whose last 36 bits are the number of frames
_NO_MD5 = bytes(16)
_MOST_BLOCKS = 4096
# What a frame's header may say instead of "as in STREAMINFO".
_BITS = {1: 8, 2: 12, 4: 16, 5: 20, 6: 24, 7: 32}
_RATES = dict(
    enumerate((88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000), start=1)
)


@dataclass(frozen=True)
class StreamInfo:
    """frames is None where the stream does not say how long it is; md5 where it has none."""

    frames: int | None
    sample_rate: int
    channels: int
    bits: int
    md5: bytes | None


def is_flac(head: bytes) -> bool:
    """Whether a file that begins with `head` (4 bytes) is a FLAC."""
    return head[:4] == b"fLaC"


def read_stream_info(at: Window, size: int, name: str) -> StreamInfo:
    """STREAMINFO of the FLAC of `size` bytes that `at` looks into.

    Raises AudioError, with `name`, when it is broken, says more frames than `size` bytes can
    hold, or is at odds with the header of the first frame, as far as `at` shows that.
    """
    head = at(0, _STREAMINFO)
    if len(head) < _STREAMINFO or head[4] & 0x7F != 0 or int.from_bytes(head[5:8], "big") != 34:
        raise AudioError(f"{name}: truncated or broken FLAC header")
    packed = int.from_bytes(head[18:26], "big")
    rate, channels, bits = packed >> 44, (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1
    frames = packed & (1 << 36) - 1
    require_rate(rate, name)
    if frames > most_frames(size, rate):
        raise AudioError(
            f"{name}: {frames} frames in the FLAC header of a file of {size} bytes: a false length"
        )
    md5 = head[26:42]
    info = StreamInfo(frames or None, rate, channels, bits, None if md5 == _NO_MD5 else md5)
    _check_first_frame(at, info, name)
    return info


def without_length(data: bytes) -> bytes:
    """The FLAC file with a header that does not say how long it is, so that decoders go to its end."""
    cut = bytearray(data)
    cut[_LENGTH.start] &= 0xF0
    cut[_LENGTH.start + 1 : _LENGTH.stop] = bytes(4)
    return bytes(cut)


class AudioMd5:
    """The MD5 of audio as FLAC defines it: little-endian samples of whole bytes, channels interleaved."""

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._md5: Any = hashlib.md5(usedforsecurity=False)

    def add(self, samples: Int32Array) -> None:
        """samples: int32 (n, channels), shifted to the most significant bits, as libsndfile gives them."""
        values = (samples >> (32 - self._bits)).astype("<i4")
        width = -(-self._bits // 8)
        self._md5.update(np.ascontiguousarray(values.view(np.uint8).reshape(-1, 4)[:, :width]))

    def digest(self) -> bytes:
        return bytes(self._md5.digest())


def _check_first_frame(at: Window, info: StreamInfo, name: str) -> None:
    place = 4
    for _ in range(_MOST_BLOCKS):
        block = at(place, 4)
        if len(block) < 4:
            return
        place += 4 + int.from_bytes(block[1:], "big")
        if block[0] & 0x80:
            break
    frame = at(place, 4)
    if len(frame) < 4 or frame[:2] not in (b"\xff\xf8", b"\xff\xf9"):
        return  # the decoder's to judge
    rate = _RATES.get(frame[2] & 15, info.sample_rate)
    bits = _BITS.get(frame[3] >> 1 & 7, info.bits)
    assigned = frame[3] >> 4
    channels = assigned + 1 if assigned < 8 else 2
    if (rate, channels, bits) != (info.sample_rate, info.channels, info.bits):
        raise AudioError(
            f"{name}: the FLAC header says {info.sample_rate} Hz, {info.channels} channels, {info.bits} bits,"
            f" its first frame {rate} Hz, {channels} channels, {bits} bits"
        )
