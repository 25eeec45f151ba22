"""What is known of an audio file before it is decoded, and the errors that speak of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from shard_tools.errors import UserError

SAMPLE_RATE = 16000
# What is resampled to 16 kHz: below telephone speech there is no speech, and sound cards end at 768 kHz.
LOWEST_RATE, HIGHEST_RATE = 4000, 768_000
LARGEST_FILE = 4_000_000_000  # a little below RIFF's own bound, and more than any utterance has

Codec = Literal["wav", "flac"]
Window = Callable[
    [int, int], bytes
]  # (start, count) → those bytes of a file; fewer where they are not at hand


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
        known = self.codec == "flac" or self.pcm_offset is not None
        return known and (self.sample_rate, self.channels, self.subtype) == (SAMPLE_RATE, 1, "PCM_16")

    def describe(self) -> str:
        """For example "8000 Hz, 2 channels, PCM_16"."""
        return f"{self.sample_rate} Hz, {self.channels} channel{'s' * (self.channels != 1)}, {self.subtype}"


def most_frames(size: int, rate: int) -> int:
    """The most frames, at `rate` or resampled to 16 kHz, that a file of `size` bytes is taken to hold.

    Speech at the lowest bit rates has some 60 frames in a byte. A few bytes that say they hold hours, be it
    by a false length or by compressed silence, would take all memory. A quarter of an hour is always allowed.
    """
    return int(max(1 << 24, 64 * size) * min(1.0, rate / SAMPLE_RATE))


def require_rate(rate: int, name: str) -> None:
    """Raise AudioError for a sample rate that no recording of speech has."""
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise AudioError(
            f"{name}: its header says {rate} Hz; sample rates from {LOWEST_RATE} to {HIGHEST_RATE} Hz can be"
            " converted, and others are taken for damage"
        )


def bytes_window(data: bytes) -> Window:
    """A window on bytes at hand."""
    return lambda start, count: data[start : start + count]


class WindowFile(io.RawIOBase):
    """A file of `size` bytes that `at` shows, for libraries that want one."""

    def __init__(self, at: Window, size: int) -> None:
        self._at, self._size, self._place = at, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(offset + {0: 0, 1: self._place, 2: self._size}[whence], 0)
        return self._place

    def read(self, count: int = -1) -> bytes:
        left = max(self._size - self._place, 0)
        data = self._at(self._place, left if count < 0 else min(count, left))
        self._place += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
