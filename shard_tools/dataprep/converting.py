"""Files of any audio into a folder of 16 kHz, mono, 16-bit WAV or FLAC, one for one, in processes.

A file appears under its name when it is whole. What is there, whole and not older than what it is made from,
stays; so a run that was killed goes on where it was. A bad file fails alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from shard_tools import audio, storage
from shard_tools.audio import Codec
from shard_tools.audio.convert import EXTENSIONS, fitted, require_decoders
from shard_tools.audio.regular_file import open_regular
from shard_tools.dataprep import pace
from shard_tools.errors import UserError
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.walk import audio_files
from shard_tools.storage.errors import explain
from shard_tools.workers import Report, WorkerDiedError, run

_FILES_PER_TASK = 32
_HEAD_BYTES = 4096
_SCRATCH = ".converting-"
_READING = ".reading"  # after a process's number: the name of a file that holds the path that it reads
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


Work = Callable[[Task, Report], Converted]


def pairs_of(source: str, out: str, codec: Codec) -> list[Pair]:
    """Every audio file below folder `source` and its place below `out`, sorted.

    Raises UserError when there is none, or `out` lies in `source` or is it; ProblemsError for files that
    would become one, and for folders that cannot be listed.
    """
    if storage.kind(source) != "folder":
        state = "does not exist" if storage.kind(source) is None else "is not a folder"
        raise UserError(f"{source}: {state}; give the folder below which the audio lies")
    real, real_out = os.path.realpath(source), os.path.realpath(out)
    if os.path.commonpath([real, real_out]) == real:
        raise UserError(f"{out}: lies in {source}, whose files are read; give a folder beside it")
    paths, problems = audio_files(source, EXTENSIONS)
    taken: dict[str, str] = {}
    for path in paths:
        target = f"{os.path.splitext(path)[0]}.{codec}"
        other = taken.setdefault(target, path)
        if other != path:
            problems.append(f"{source}: {other} and {path} would both become {target}; rename one")
    if problems:
        raise ProblemsError(problems, "nothing was converted")
    if not paths:
        raise UserError(f"{source}: no audio below it")
    return [Pair(os.path.join(source, path), os.path.join(out, target)) for target, path in taken.items()]


def convert_all(
    pairs: Sequence[Pair],
    out: str,
    codec: Codec,
    *,
    workers: int = 1,
    progress: bool = False,
    work: Work | None = None,
) -> Converted:
    """Make the targets, which lie below folder `out`, that are not there yet.

    work: does a task; tests give another. Raises UserError at once for what would be every file's: PyAV is
    missing, the disk is full.
    """
    began = time.monotonic()
    require_decoders(pair.source for pair in pairs)
    work = work or convert_some
    summary = Converted()
    with _scratch_folder(out) as scratch, pace.shown("converting", len(pairs), progress=progress) as report:
        left = [
            Task(pairs[first : first + _FILES_PER_TASK], codec, scratch)
            for first in range(0, len(pairs), _FILES_PER_TASK)
        ]
        while left:
            done = set()  # by identity: there are tens of thousands
            try:
                for task, part in run(work, left, workers=workers, progress=report):
                    done.add(id(task))
                    summary.add(part)
                break
            except WorkerDiedError:
                left = [task for task in left if id(task) not in done]
                left, suspects = _apart(left, scratch)
                if not suspects:
                    raise
                for pair in suspects:
                    summary.add(_alone(Task([pair], codec, scratch), work))
    summary.failures.sort()
    summary.seconds = time.monotonic() - began
    return summary


def _apart(tasks: Sequence[Task], scratch: str) -> tuple[list[Task], list[Pair]]:
    """(the tasks without the files that were being read when a process died; these files)."""
    read = set()
    for marker in glob.glob(os.path.join(glob.escape(scratch), f"*{_READING}")):
        with open(marker, encoding="utf-8", errors="surrogateescape") as file:
            read.add(file.read())
        os.unlink(marker)
    suspects = [pair for task in tasks for pair in task.pairs if pair.source in read]
    others = [
        Task([pair for pair in task.pairs if pair.source not in read], task.codec, scratch) for task in tasks
    ]
    return [task for task in others if task.pairs], suspects


def _alone(task: Task, work: Work) -> Converted:
    """The result of a task in a process of its own, which it may bring down."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(work, task, _nothing).result()
        except BrokenProcessPool:
            reason = "the process that read it died: a decoder fails at it, or it is too large for the memory"
            return Converted(failures=[f"{pair.source}: {reason}" for pair in task.pairs])


def _nothing(_: int) -> None:
    pass


def convert_some(task: Task, report: Report) -> Converted:
    """Make the targets of a task. What is being read stands in a file, should this process die of it."""
    summary = Converted()
    marker = os.path.join(task.scratch, f"{os.getpid()}{_READING}")
    with open(marker, "w", encoding="utf-8", errors="surrogateescape") as reading:
        for pair in task.pairs:
            try:
                reading.seek(0)
                reading.truncate()
                reading.write(pair.source)
                reading.flush()
                _one(pair, task, summary)
            except audio.AudioError as error:
                summary.failures.append(str(error))
            except MemoryError:
                summary.failures.append(f"{pair.source}: more than this machine has memory for")
            except OSError as error:
                if error.errno in _STOPPING:
                    raise storage.StorageError(explain(error, pair.target)) from error
                summary.failures.append(explain(error, error.filename or pair.source))
            report(1)
    return summary


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


@contextlib.contextmanager
def _scratch_folder(out: str) -> Iterator[str]:
    """A new folder below `out` for files under construction; those of killed runs are removed.

    Two runs may work in one folder: what both make is the same, and each has a scratch folder of its own.
    """
    try:
        os.makedirs(out, exist_ok=True)
        for name in os.listdir(out):
            if name.startswith(_SCRATCH):
                _remove_if_left(os.path.join(out, name))
        folder = tempfile.mkdtemp(prefix=_SCRATCH, dir=out)
    except OSError as error:
        raise storage.StorageError(explain(error, out)) from error
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        lock = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, lock)
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder


def _remove_if_left(folder: str) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY)
    except OSError:  # its owner has just ended
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # at work; or it cannot be known, and then it stays
        return
    finally:
        os.close(lock)
    shutil.rmtree(folder, ignore_errors=True)
