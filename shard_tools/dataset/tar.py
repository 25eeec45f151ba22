"""Tars: writing one whose bytes depend on nothing but names and data, and checksums of one."""

from __future__ import annotations

import hashlib
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from shard_tools.arrays import UInt32Array
from shard_tools.dataset.index import BLOCK_SIZE


class TarBuilder:
    """Writes members in GNU format: plain headers with mtime 0, and a long-name member above 100 bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._crcs: list[int] = []
        self._crc = 0
        self.size = 0

    def add(self, name: str, data: bytes) -> int:
        """Append a member; returns the offset of its data in the tar."""
        header = tarfile.TarInfo(name)
        header.size = len(data)
        header.mode = 0o444
        self._write(header.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict"))
        offset = self.size
        self._write(data)
        self._write(bytes(-len(data) % tarfile.BLOCKSIZE))
        return offset

    def finish(self) -> None:
        """Write the end of the archive: two zero blocks, filled up to a record as tar does."""
        self._write(bytes(2 * tarfile.BLOCKSIZE))
        self._write(bytes(-self.size % tarfile.RECORDSIZE))
        if self.size % BLOCK_SIZE:
            self._crcs.append(self._crc)
        self._file.flush()

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def block_crc32(self) -> UInt32Array:
        """CRC-32 of each BLOCK_SIZE bytes; complete after `finish`."""
        return np.array(self._crcs, np.uint32)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        view = memoryview(data)
        while view:
            piece = view[: BLOCK_SIZE - self.size % BLOCK_SIZE]
            self._crc = zlib.crc32(piece, self._crc)
            self.size += len(piece)
            if self.size % BLOCK_SIZE == 0:
                self._crcs.append(self._crc)
                self._crc = 0
            view = view[len(piece) :]


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
            crcs.extend(zlib.crc32(view[at : at + BLOCK_SIZE]) for at in range(0, len(chunk), BLOCK_SIZE))
            size += len(chunk)
            report(len(chunk))
    return Checksums(size, sha256.hexdigest(), np.array(crcs, np.uint32))
