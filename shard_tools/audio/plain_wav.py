"""WAVs in the layout that nearly all have, whose header can be read in one way only, and quickly.

Of these, nothing has to be decoded to know that every reader finds the same audio: chunks that fill the
file to its last byte, as its first eight bytes say; one `fmt ` of 16 kHz, mono, 16-bit PCM; one `data`; and
besides at most one `LIST`, whole itself, as FFmpeg and SoX write. `wav.py` reads all others.
"""

from __future__ import annotations

import struct

from shard_tools.audio.info import SAMPLE_RATE, AudioInfo

HEAD_BYTES = 4096  # of a file: enough for every header that is taken here
_FORM = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE, 2 * SAMPLE_RATE, 2, 16)
_FMT = struct.pack("<4sI", b"fmt ", len(_FORM)) + _FORM
_COMMON = b"WAVE" + _FMT + b"data"  # bytes [8, 40) of a file without LIST
_LENGTH = struct.Struct("<I")
_CHUNK = struct.Struct("<4sI")


def plain_wav(head: bytes, size: int) -> AudioInfo | None:
    """What the header of such a WAV says; None for any other file.

    head: the first HEAD_BYTES bytes, or all, of a file of `size` bytes.
    """
    if head[:4] != b"RIFF" or len(head) < 44 or _LENGTH.unpack_from(head, 4)[0] + 8 != size:
        return None
    if head[8:40] == _COMMON:
        start = 44
    elif head[8:36] == _COMMON[:28] and (after := _after_list(head, 36)) is not None:
        if head[after : after + 4] != b"data":
            return None
        start = after + 8
    else:
        return None
    if len(head) < start:
        return None
    (length,) = _LENGTH.unpack_from(head, start - 4)
    if length == 0 or length & 1 or start + length != size:
        return None
    return AudioInfo(length // 2, SAMPLE_RATE, 1, "PCM_16", "wav", start)


def _after_list(head: bytes, at: int) -> int | None:
    """Where the LIST chunk at `at` ends; None when it is none, or not of INFO texts that just fill it."""
    if head[at : at + 4] != b"LIST" or head[at + 8 : at + 12] != b"INFO":
        return None
    end = at + 8 + _LENGTH.unpack_from(head, at + 4)[0]
    if end & 1 or end + 8 > len(head):
        return None
    at += 12
    while at < end:
        if end - at < 8:
            return None
        tag, length = _CHUNK.unpack_from(head, at)
        if not (tag.isalnum() and tag[:1] == b"I"):
            return None
        at += 8 + length + (length & 1)
    return end if at == end else None
