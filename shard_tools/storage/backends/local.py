"""This machine's file systems: what is published is whole or absent, and lasts through a power cut."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from shard_tools.storage.errors import ShortError, Verdict, judge_system

# What `_beside` makes of a name.
_DRAFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part")


@dataclass(frozen=True)
class LocalPlace:
    """A file or a folder on a disk. Its verbs are those of `contract.Place`."""

    path: str

    moves: ClassVar[bool] = True
    at_once: ClassVar[int] = 32
    lets_signals_in: ClassVar[bool] = True

    def judge(self, error: BaseException) -> Verdict:
        return judge_system(error)

    def check(self) -> None:
        os.stat(self.path)

    def size(self) -> int:
        return os.stat(self.path).st_size

    def modified(self) -> float:
        return os.stat(self.path).st_mtime

    def read(self, start: int | None, end: int | None) -> bytes:
        with open(self.path, "rb") as file:
            if start:
                file.seek(start)
            return file.read() if end is None else file.read(max(end - (start or 0), 0))

    def read_exactly(self, start: int, end: int, size: int) -> bytes:
        data = self.read(start, end)
        if len(data) < end - start:
            found = start + len(data)
            raise ShortError(
                f"{self.path}: ends at byte {found}, the manifest says {size}:"
                " it was cut short or packed anew",
                size=found,
            )
        return data

    def names(self) -> list[str]:
        return os.listdir(self.path)

    def write(self, data: bytes) -> None:
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        with _beside(self.path) as temporary:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        _sync_folder(self.path)

    def take(self, local_file: str) -> None:
        os.makedirs(os.path.dirname(self.path) or ".", exist_ok=True)
        with _beside(self.path) as temporary:
            shutil.move(local_file, temporary)  # a rename where both lie on one file system, else a copy
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        _sync_folder(self.path)

    def upload(self) -> None:
        return None  # a file in the scratch folder is as good

    def remove(self) -> None:
        os.unlink(self.path)

    def remove_drafts(self, ours: Callable[[str], bool]) -> list[str]:
        found = (_DRAFT.fullmatch(name) for name in sorted(self.names()))
        drafts = [match[0] for match in found if match and ours(match["name"])]
        for name in drafts:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.path, name))
        return drafts


@contextlib.contextmanager
def _beside(path: str) -> Iterator[str]:
    """A name in the folder of `path` that no reader takes for a shard; what is left under it is removed."""
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _sync_folder(path: str) -> None:
    """Make a rename in the folder of `path` last through a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
