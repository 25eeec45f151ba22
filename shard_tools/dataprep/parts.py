"""Several files read as one, as if they had been joined."""

from __future__ import annotations

import errno
import io
import os
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any


class PartsFile(io.RawIOBase):
    """The files at `paths` one after the other, for reading at any place. OSError where one cannot be read.

    size: of all together.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._ends = list(accumulate(os.stat(path).st_size for path in paths))
        self.size = self._ends[-1] if self._ends else 0
        self._position = 0
        self._open: tuple[int, io.FileIO] | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as a file does; zipfile relies on it
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        number = bisect_right(self._ends, self._position)
        if number == len(self._paths) or not view:
            return 0
        start = self._ends[number - 1] if number else 0
        file = self._file(number)
        file.seek(self._position - start)
        wanted = min(len(view), self._ends[number] - self._position)
        got = file.readinto(view[:wanted]) or 0
        if got == 0:
            raise OSError(None, "was cut short while it was read", str(self._paths[number]))
        self._position += got
        return got

    def close(self) -> None:
        if self._open is not None:
            self._open[1].close()
            self._open = None
        super().close()

    def _file(self, number: int) -> io.FileIO:
        if self._open is None or self._open[0] != number:
            if self._open is not None:
                self._open[1].close()
            self._open = number, io.FileIO(self._paths[number])
        return self._open[1]
