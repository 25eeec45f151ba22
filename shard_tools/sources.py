"""Where the bytes of shards come from: the seam below the codecs.

A byte source fills buffers from byte ranges of shards and knows nothing of audio.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

OPEN_FILES = 256  # a process may open 1,024 files on most systems


class RangeError(Exception):
    """Range number `position` of a request cannot be had; the reader knows which utterance that is."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(position, reason)
        self.position = position
        self.reason = reason


class ByteSource(Protocol):
    def fill(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill each buffer (writable bytes) from `offsets[i]` of shard `shards[i]`; else RangeError."""


class LocalSource:
    """Shards in this machine's file system: one positioned read a range."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._files: dict[int, int] = {}

    def fill(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        files = self._files
        preadv = os.preadv
        for position, (shard, offset, buffer) in enumerate(zip(shards, offsets, buffers, strict=True)):
            try:
                file = files[shard] if shard in files else self._open(shard)
                count = preadv(file, (buffer,), offset)
            except OSError as error:
                raise RangeError(position, error.strerror or str(error)) from error
            if count != len(buffer):
                self._finish(position, file, offset, buffer, count)

    def _finish(self, position: int, file: int, offset: int, buffer: memoryview, count: int) -> None:
        """Go on after a read that came back short: a signal, a network file system, the end of the file."""
        while count < len(buffer):
            more = os.preadv(file, (buffer[count:],), offset + count)
            if more == 0:
                raise RangeError(position, _too_short(len(buffer) - count))
            count += more

    def _open(self, shard: int) -> int:
        while len(self._files) >= OPEN_FILES:
            os.close(self._files.pop(next(iter(self._files))))
        self._files[shard] = file = os.open(self._paths[shard], os.O_RDONLY | os.O_CLOEXEC)
        return file

    def __getstate__(self) -> dict[str, object]:
        return {"_paths": self._paths, "_files": {}}

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            os.close(file)


def _too_short(missing: int) -> str:
    return f"the shard ends {missing} bytes too early: it was cut short"
