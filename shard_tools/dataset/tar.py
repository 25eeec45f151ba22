"""Tars: writing one whose bytes depend on nothing but names and data, and checksums of one."""

from __future__ import annotations

import hashlib
import queue
import tarfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from shard_tools.arrays import UInt32Array
from shard_tools.checksum import crc32
from shard_tools.dataset.index import BLOCK_SIZE
from shard_tools.threads import joined

_MODE = 0o444
_WIDE = 1 << 33  # bytes of a member, from which on 11 octal digits do not hold its size
_PIECE = 1 << 16  # bytes: what is smaller is written together with what comes next
_PIECES_WAITING = 4
_LARGE = 16 << 20  # bytes: a piece of more is waited for
_POLL_S = 0.5


class Writable(Protocol):
    """What a tar is written to: a file, or an upload. `write` may take less than all, and says how much."""

    def write(self, data: memoryview, /) -> int | None: ...

    def flush(self) -> None: ...


class TarBuilder:
    """Writes members in GNU format: plain headers with mtime 0, and a long-name member above 100 bytes.

    Pieces are summed in the thread of `add`, and hashed and written in another one, so that two processors
    share the work; a few pieces, or one that is large, wait for it at a time. What was added is written when
    `finish` returns; as a context, it ends the thread, and where an exception ends that, drops what waits.

    meanwhile: called now and then while pieces are waited for; it may raise. stop: called when an exception
    ends the context, before the thread is waited for, to end a `write` that might take long.
    """

    def __init__(
        self,
        file: Writable,
        *,
        meanwhile: Callable[[], object] = lambda: None,
        stop: Callable[[], object] = lambda: None,
    ) -> None:
        self._sink = _Sink(file, meanwhile)
        self._stop = stop
        self._small: list[bytes] = []  # what is not worth a piece of its own
        self._small_size = 0
        self._crcs: list[int] = []
        self._crc = 0
        self._summed = 0
        self.size = 0

    def __enter__(self) -> TarBuilder:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._sink.drop()
            self._stop()
        self._sink.close()

    def add(self, name: str, data: bytes) -> int:
        """Append a member; returns the offset of its data in the tar. Raises what writing has raised."""
        self._put(_header(name, len(data)))
        offset = self.size
        self._put(data)
        self._put(bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def finish(self) -> None:
        """Write the end of the archive: two zero blocks, filled up to a record as tar does."""
        self._put(bytes(2 * tarfile.BLOCKSIZE))
        self._put(bytes(-self.size % tarfile.RECORDSIZE))
        self._pass_small()
        if self.size % BLOCK_SIZE:
            self._crcs.append(self._crc)
        self._sink.finish()

    @property
    def sha256(self) -> str:
        """Complete after `finish`, as is `block_crc32`."""
        return self._sink.sha256.hexdigest()

    @property
    def block_crc32(self) -> UInt32Array:
        """CRC-32 of each BLOCK_SIZE bytes."""
        return np.array(self._crcs, np.uint32)

    def _put(self, data: bytes) -> None:
        self.size += len(data)
        if len(data) >= _PIECE:
            self._pass_small()
            self._pass(data)
            return
        self._small.append(data)
        self._small_size += len(data)
        if self._small_size >= _PIECE:
            self._pass_small()

    def _pass_small(self) -> None:
        if self._small:
            self._pass(b"".join(self._small))
            self._small, self._small_size = [], 0

    def _pass(self, data: bytes) -> None:
        self._sink.put(data)
        self._sum(data)

    def _sum(self, data: bytes) -> None:
        view, at = memoryview(data), 0
        if self._summed % BLOCK_SIZE:  # the rest of a block that was begun
            at = min(BLOCK_SIZE - self._summed % BLOCK_SIZE, len(data))
            self._crc = crc32(view[:at], self._crc)
            if (self._summed + at) % BLOCK_SIZE == 0:
                self._crcs.append(self._crc)
        whole = at + (len(data) - at) // BLOCK_SIZE * BLOCK_SIZE
        self._crcs += [crc32(view[start : start + BLOCK_SIZE]) for start in range(at, whole, BLOCK_SIZE)]
        if whole < len(data):
            self._crc = crc32(view[whole:])
        self._summed += len(data)


class _Sink:
    """Hashes and writes what is put into it, in order, in a thread of its own."""

    def __init__(self, file: Writable, meanwhile: Callable[[], object]) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file
        self._meanwhile = meanwhile
        self._dropped = False
        self._error: BaseException | None = None
        self._waiting: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A place for each piece that may wait; unlike a bounded Queue, this does not pass through Python.
        self._places: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(_PIECES_WAITING):
            self._places.put(None)
        self._thread = threading.Thread(target=self._work, name="tar", daemon=True)
        self._thread.start()

    def put(self, data: bytes) -> None:
        """Raises what has been raised for an earlier piece."""
        if self._error is not None:
            raise self._error
        self._take_place()
        self._waiting.put(data)
        if len(data) > _LARGE:
            self._wait()

    def finish(self) -> None:
        """Wait until all is written. Raises what was raised for one of the pieces."""
        self._wait()
        if self._error is not None:
            raise self._error
        self._file.flush()

    def drop(self) -> None:
        """Write none of what waits."""
        self._dropped = True

    def close(self) -> None:
        """End the thread; what waits is written, unless it was dropped, or an earlier piece could not be."""
        self._waiting.put(None)
        joined(self._thread)

    def _take_place(self) -> None:
        while True:
            try:
                return self._places.get(timeout=_POLL_S)
            except queue.Empty:
                self._meanwhile()

    def _wait(self) -> None:
        for _ in range(_PIECES_WAITING):
            self._take_place()
        for _ in range(_PIECES_WAITING):
            self._places.put(None)

    def _work(self) -> None:
        while (data := self._waiting.get()) is not None:
            if self._error is None and not self._dropped:
                try:
                    view = memoryview(data)
                    while view and not self._dropped:  # a file without a buffer may take less than all
                        view = view[self._file.write(view) :]
                    self.sha256.update(data)
                except BaseException as error:
                    self._error = error
            self._places.put(None)


def _header(name: str, size: int) -> bytes:
    """The header of a member, as tarfile writes it."""
    encoded = name.encode()
    if len(encoded) > tarfile.LENGTH_NAME or size >= _WIDE:
        header = tarfile.TarInfo(name)
        header.size, header.mode = size, _MODE
        return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")
    digits = b"%011o" % size
    checksum = _TEMPLATE_SUM + sum(encoded) + sum(digits)
    return b"%b%b%b%b%06o%b" % (
        encoded.ljust(tarfile.LENGTH_NAME, b"\0"),
        _MODE_TO_SIZE,
        digits,
        _SIZE_TO_CHECKSUM,
        checksum,
        _AFTER_CHECKSUM,
    )


def _empty_header() -> bytes:
    """The header of an empty member without a name."""
    header = tarfile.TarInfo("")
    header.mode = _MODE
    return header.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


# The places of the size's digits, and of the checksum, which are summed as blanks.
_SIZE, _CHECKSUM = slice(124, 135), slice(148, 154)
_EMPTY = _empty_header()
_MODE_TO_SIZE = _EMPTY[tarfile.LENGTH_NAME : _SIZE.start]
_SIZE_TO_CHECKSUM = _EMPTY[_SIZE.stop : _CHECKSUM.start]
_AFTER_CHECKSUM = _EMPTY[_CHECKSUM.stop :]
_TEMPLATE_SUM = int(_EMPTY[_CHECKSUM], 8) - sum(_EMPTY[_SIZE])


@dataclass(frozen=True)
class Checksums:
    """Of a whole tar. block_crc32: uint32, CRC-32 of each BLOCK_SIZE bytes; the last block may be shorter."""

    size: int
    sha256: str
    block_crc32: UInt32Array


def checksums(path: str, report: Callable[[int], object]) -> Checksums:
    """Checksums of the file at `path`; `report` gets the number of bytes as they are read."""
    sha256 = hashlib.sha256()
    crcs: list[int] = []
    size = 0
    with open(path, "rb") as file:
        while chunk := file.read(512 * BLOCK_SIZE):
            sha256.update(chunk)
            view = memoryview(chunk)
            crcs.extend(crc32(view[at : at + BLOCK_SIZE]) for at in range(0, len(chunk), BLOCK_SIZE))
            size += len(chunk)
            report(len(chunk))
    return Checksums(size, sha256.hexdigest(), np.array(crcs, np.uint32))
