"""WAV files with any numbers in their headers."""

from __future__ import annotations

import struct

import numpy as np


def tone(frames: int = 1600) -> np.ndarray:
    return np.rint(8000 * np.sin(np.arange(frames) / 10)).astype(np.int16)


def chunk(tag: bytes, body: bytes, length: int | None = None, order: str = "<") -> bytes:
    length = len(body) if length is None else length
    return struct.pack(f"{order}4sI", tag, length) + body + bytes(len(body) & 1)


def form(
    kind: int = 1,
    channels: int = 1,
    rate: int = 16000,
    align: int = 2,
    bits: int = 16,
    byte_rate: int | None = None,
    order: str = "<",
) -> bytes:
    byte_rate = rate * align if byte_rate is None else byte_rate
    body = struct.pack(f"{order}HHIIHH", kind, channels, rate, byte_rate & 0xFFFFFFFF, align, bits)
    return chunk(b"fmt ", body, order=order)


def wav(
    *chunks: bytes,
    pcm: bytes | None = None,
    length: int | None = None,
    riff: int | None = None,
    magic: bytes = b"RIFF",
    tail: bytes = b"",
) -> bytes:
    """A WAV of these chunks (`form()` if none) and then its data, and `tail`."""
    order = ">" if magic == b"RIFX" else "<"
    pcm = tone().astype(f"{order}i2").tobytes() if pcm is None else pcm
    body = b"WAVE" + b"".join(chunks or (form(),)) + chunk(b"data", pcm, length, order) + tail
    return struct.pack(f"{order}4sI", magic, len(body) if riff is None else riff) + body
