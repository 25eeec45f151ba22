"""Files of any audio into a folder of 16 kHz, mono, 16-bit WAV or FLAC, one for one, in processes.

A file appears under its name when it is whole. What is there, whole and not older than what it is made from,
stays; so a run that was killed goes on where it was. A bad file fails alone.
"""

from __future__ import annotations

import contextlib
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

from shard_tools import storage
from shard_tools.audio import Codec
from shard_tools.audio.convert import EXTENSIONS, require_decoders
from shard_tools.dataprep import pace
from shard_tools.dataprep.conversion import READING, Converted, Pair, Task, convert_some
from shard_tools.errors import UserError
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.walk import audio_files
from shard_tools.storage.errors import explain
from shard_tools.threads import awaited
from shard_tools.workers import Report, WorkerDiedError, run

_FILES_PER_TASK = 32
_SCRATCH = ".converting-"

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
    for marker in glob.glob(os.path.join(glob.escape(scratch), f"*{READING}")):
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
            return awaited(pool.submit(work, task, _nothing))
        except BrokenProcessPool:
            reason = "the process that read it died: a decoder fails at it, or it is too large for the memory"
            return Converted(failures=[f"{pair.source}: {reason}" for pair in task.pairs])


def _nothing(_: int) -> None:
    pass


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
