"""A member of an archive as a file: the bytes that lie in it unpacked."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import BinaryIO


class MemberFile(io.RawIOBase):
    """`size` bytes of `archive` from `start` on. check: is given all of them where they are read at once."""

    def __init__(
        self, archive: BinaryIO, start: int, size: int, check: Callable[[bytes], object] = lambda _: None
    ) -> None:
        self._archive, self._start, self._size, self._check = archive, start, size, check
        self._place = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(offset + {0: 0, 1: self._place, 2: self._size}[whence], 0)
        return self._place

    def read(self, count: int = -1) -> bytes:
        left = max(self._size - self._place, 0)
        whole = self._place == 0 and (count < 0 or count >= left)
        self._archive.seek(self._start + self._place)
        data = self._archive.read(left if count < 0 else min(count, left))
        self._place += len(data)
        if whole:
            self._check(data)
        return data
