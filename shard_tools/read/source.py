"""Where the bytes of shards come from: the seam below the codecs.

A byte source fills buffers from byte ranges of shards and knows nothing of audio.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Sequence
from typing import ClassVar, Protocol
from weakref import WeakSet

OPEN_FILES = 256  # of one source, at most
_NO_MORE = (errno.EMFILE, errno.ENFILE)  # of this process, of this machine


class RangeError(Exception):
    """Range number `position` of a request cannot be had; the reader knows which utterance that is."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(position, reason)
        self.position = position
        self.reason = reason


class Filler(Protocol):
    def fill(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill each buffer (writable bytes) from `offsets[i]` of shard `shards[i]`; else RangeError."""


class ByteSource(Filler, Protocol):
    """at_once: whether reads are answered without waiting, so that nothing is won by asking ahead."""

    @property
    def at_once(self) -> bool: ...

    def keep(self, shards: Sequence[int]) -> None:
        """Told that these shards, and for now no others, will be read."""

    def prefetch(self, shards: Sequence[int]) -> None:
        """Told which shards will be read after those; the list replaces the one given before."""


class Unheeding:
    """For sources to which it makes no difference what will be read."""

    def keep(self, shards: Sequence[int]) -> None:
        """Nothing to do."""

    def prefetch(self, shards: Sequence[int]) -> None:
        """Nothing to do."""


class LocalSource(Unheeding):
    """Shards in this machine's file system: one positioned read a range.

    Its files stay open for the next reads, in a number that heeds the process's limit: all sources
    share half of that, and one for which the others left nothing closes its own before it gives up.

    fetched_bytes: that this object was asked for.
    """

    at_once = True
    _all: ClassVar[WeakSet[LocalSource]] = WeakSet()

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._files: dict[int, int] = {}
        self.fetched_bytes = 0
        LocalSource._all.add(self)

    def fill(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        files = self._files
        preadv = os.preadv
        self.fetched_bytes += sum(map(len, buffers))
        for position, (shard, offset, buffer) in enumerate(zip(shards, offsets, buffers, strict=True)):
            try:
                file = files[shard] if shard in files else self._open(shard)
                count = preadv(file, (buffer,), offset)
            except OSError as error:
                raise RangeError(position, _reason(error)) from error
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
        share = min(OPEN_FILES, most_open_files() // 2 // len(LocalSource._all))
        while self._files and len(self._files) >= share:
            self._close_oldest()
        while True:
            try:
                self._files[shard] = file = os.open(self._paths[shard], os.O_RDONLY | os.O_CLOEXEC)
                return file
            except OSError as error:
                if error.errno not in _NO_MORE or not self._files:
                    raise
                self._close_oldest()

    def _close_oldest(self) -> None:
        os.close(self._files.pop(next(iter(self._files))))

    def __getstate__(self) -> dict[str, object]:
        return {"_paths": self._paths}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._files = {}
        self.fetched_bytes = 0
        LocalSource._all.add(self)

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            os.close(file)


def most_open_files() -> int:
    """How many files this process may have open, as far as is known."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def _reason(error: OSError) -> str:
    words = error.strerror or str(error)
    if error.errno == errno.EMFILE:
        return f"{words}: this process may have {most_open_files()}; raise the limit (ulimit -n)"
    return words


def _too_short(missing: int) -> str:
    return f"the shard ends {missing} bytes too early: it was cut short"
