"""A file on its way: what has come so far, its MD5 as it is written, and nobody else who writes it."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from shard_tools.dataprep.files import CHUNK, disk_error, draft_of, make_folder, publish
from shard_tools.errors import UserError


class Partial:
    """The draft of file `path`, locked while it is open; what an earlier run left in it is gone on with.

    Raises UserError where it cannot be written, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = draft_of(path)
        self.size = 0
        self._digest = hashlib.md5(usedforsecurity=False)
        make_folder(path.parent)
        try:
            self._file = open(self._draft, "ab+", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise disk_error(self._draft, error) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise UserError(f"{path}: another dataprep is writing it; wait for that one") from None
        except OSError:  # a file system without locks
            pass

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def load(self, report: Callable[[int], object]) -> None:
        """Take what is there for written; `report` is told the bytes."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            self._digest.update(chunk)
            self.size += len(chunk)
            report(len(chunk))

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                written = self._file.write(rest) or 0
                self._digest.update(rest[:written])
                self.size += written
                rest = rest[written:]
        except OSError as error:
            raise disk_error(self._draft, error) from error

    def clear(self) -> None:
        """Begin anew."""
        self._file.truncate(0)
        self._digest = hashlib.md5(usedforsecurity=False)
        self.size = 0

    @property
    def md5(self) -> str:
        return self._digest.hexdigest()

    def publish(self) -> None:
        """Give the file its name."""
        publish(self._draft, self._path)

    def discard(self) -> None:
        """Remove it."""
        os.unlink(self._draft)
