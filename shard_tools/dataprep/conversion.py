"""What a process of `dataprep convert` does: files one after the other, each named when it is whole.

Little is imported here, so that as many processes as a machine has CPUs start soon.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from shard_tools import audio
from shard_tools.audio import Codec
from shard_tools.audio.convert import fitted
from shard_tools.audio.regular_file import open_regular
from shard_tools.workers import Report

READING = ".reading"  # after a process's number: the name of a file that holds the path that it reads
_HEAD_BYTES = 4096
# These would be every file's.
_STOPPING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


@dataclass(frozen=True)
class Pair:
    """Paths of a file and of what it becomes."""

    source: str
    target: str


@dataclass
class Converted:
    """made: files; kept: files that were there; frames: of those made, at 16 kHz; failures: a line each;
    clipped: by path, how many samples were cut off at full scale; seconds: that all of it took."""

    made: int = 0
    kept: int = 0
    frames: int = 0
    failures: list[str] = field(default_factory=list)
    clipped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    def add(self, part: Converted) -> None:
        """What came of other files; the time apart."""
        self.made += part.made
        self.kept += part.kept
        self.frames += part.frames
        self.failures += part.failures
        self.clipped |= part.clipped


@dataclass(frozen=True)
class Task:
    pairs: Sequence[Pair]
    codec: Codec
    scratch: str


def convert_some(task: Task, report: Report) -> Converted:
    """Make the targets of a task. What is being read stands in a file, should this process die of it."""
    summary = Converted()
    marker = os.path.join(task.scratch, f"{os.getpid()}{READING}")
    for pair in task.pairs:
        try:
            with open(marker, "wb", buffering=0) as reading:  # nothing is left to be written at its end
                reading.write(pair.source.encode("utf-8", "surrogateescape"))
            _one(pair, task, summary)
        except audio.AudioError as error:
            summary.failures.append(str(error))
        except MemoryError:
            summary.failures.append(f"{pair.source}: more than this machine has memory for")
        except OSError as error:
            if error.errno in _STOPPING:
                raise _error(error, pair.target) from error
            summary.failures.append(str(_error(error, error.filename or pair.source)))
        report(1)
    return summary


def _error(error: OSError, path: str) -> Exception:
    from shard_tools.storage.errors import StorageError, explain  # loaded where something fails

    return StorageError(explain(error, path))


def _one(pair: Pair, task: Task, summary: Converted) -> None:
    with open_regular(pair.source, pair.source) as file:
        if _is_made(pair.target, os.fstat(file.fileno()).st_mtime_ns, task.codec):
            summary.kept += 1
            return
        data = file.read()
    converted = fitted(data, pair.source)
    draft = os.path.join(task.scratch, str(os.getpid()))
    with open(draft, "wb") as out:
        out.write(audio.encode(converted.samples, task.codec))
    os.makedirs(os.path.dirname(pair.target), exist_ok=True)
    os.replace(draft, pair.target)
    summary.made += 1
    summary.frames += len(converted.samples)
    if converted.clipped:
        summary.clipped[pair.source] = converted.clipped


def _is_made(target: str, mtime_ns: int, codec: Codec) -> bool:
    """Whether `target` is there, not older than its source, and by its header what it should be."""
    try:
        with open(target, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mtime_ns < mtime_ns:
                return False
            info = audio.probe_header(file.read(_HEAD_BYTES), status.st_size, target)
    except (FileNotFoundError, NotADirectoryError, audio.AudioError):
        return False
    return info.fits and info.codec == codec
