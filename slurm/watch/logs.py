"""Reading the ends of logs, and what is added to them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shard_tools.text import shown
from slurm.records.run_folder import Job

_BLOCK = 1 << 16  # bytes
_AT_MOST = 1 << 26  # of a log's end, whatever its lines' length


def node_logs(job: Job, node: int | None = None) -> list[tuple[int, Path]]:
    """The number and the log of each node (of the one asked for) that printed something or began to."""
    before, _, after = Path(job.logs).name.partition("*")
    found = []
    for path in job.log_paths():
        middle = path.name[len(before) : len(path.name) - len(after)]
        # Of job 12, and not 3_0 of its array's element 12_3.
        if middle.isdigit() and node in (None, int(middle)):
            found.append((int(middle), path))
    return sorted(found)


def tail(path: Path, lines: int) -> tuple[list[str], int]:
    """The last whole lines, and where in the file they end. A line that is still being written is left."""
    try:
        with open(path, "rb") as file:
            at = file.seek(0, os.SEEK_END)
            text = b""
            while at > 0 and text.count(b"\n") <= lines and len(text) < _AT_MOST:
                size = min(_BLOCK, at)
                at -= size
                file.seek(at)
                text = file.read(size) + text
    except OSError:
        return [], 0
    end = at + text.rfind(b"\n") + 1
    whole = text[: text.rfind(b"\n") + 1].split(b"\n")[:-1]
    return [printable(line) for line in whole[max(0, len(whole) - lines) :]], end


def unfinished(path: Path, end: int) -> str:
    """What stands after the last whole line."""
    try:
        with open(path, "rb") as file:
            file.seek(end)
            return printable(file.read(_BLOCK))
    except OSError:
        return ""


def printable(line: bytes) -> str:
    """The line as a terminal would show it in the end: progress bars overwrite themselves.

    What else would act on the terminal is escaped, and credentials are taken out.
    """
    return shown(line.decode(errors="replace").rstrip("\r").rpartition("\r")[2])


@dataclass
class _Followed:
    at: int  # bytes read
    file: int | None  # inode
    rest: bytes = b""


@dataclass
class Follower:
    """Lines as they are added to a growing set of files; one cut short is read from its start again."""

    _files: dict[Path, _Followed] = field(default_factory=dict)

    def start_at(self, path: Path, at: int) -> None:
        """Pass over the first `at` bytes, which were shown already."""
        self._files[path] = _Followed(at, _inode(path))

    def new_lines(self, paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        for path in paths:
            for line in self._of(path):
                yield path, line

    def last_words(self, paths: Sequence[Path]) -> Iterator[tuple[Path, str]]:
        """The lines that never came to their end, when nobody writes any more."""
        yield from self.new_lines(paths)
        for path, known in self._files.items():
            if known.rest and path in paths:
                yield path, printable(known.rest)
                known.rest = b""

    def _of(self, path: Path) -> Iterator[str]:
        known = self._files.setdefault(path, _Followed(0, None))
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if known.file not in (None, status.st_ino) or status.st_size < known.at:
                    known.at, known.rest = 0, b""
                known.file = status.st_ino
                file.seek(known.at)
                while block := file.read(_BLOCK):
                    known.at += len(block)
                    *whole, known.rest = (known.rest + block).split(b"\n")
                    for line in whole:
                        yield printable(line)
        except OSError:
            return  # not there yet, or for a moment


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except OSError:
        return None
