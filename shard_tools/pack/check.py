"""A look at every source file before any is packed, so that problems show in minutes, not after hours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

from tqdm import tqdm

from shard_tools import audio
from shard_tools.audio.convert import check_convertible
from shard_tools.audio.info import Window
from shard_tools.pack.corpus import Corpus
from shard_tools.pack.listing import ProblemsError
from shard_tools.workers import Report, run

_FILES_PER_TASK = 500
_HEAD_BYTES = 4096  # enough of a file for its header in all but freak cases


@dataclass(frozen=True)
class _Task:
    first: int
    corpus: Corpus
    paths: Sequence[str]
    convert: bool


def check_sources(
    corpus: Corpus, paths: Sequence[str], *, convert: bool, workers: int, progress: bool
) -> list[tuple[int, int]]:
    """(size in bytes, mtime in ns) of each file, in order, after a look at its header.

    Raises ProblemsError naming every file that does not exist or whose header says
    that it cannot be packed: empty, truncated, not audio, or (unless `convert`) not
    16 kHz mono 16-bit. Damage beyond the header shows only in packing.
    """
    tasks = [
        _Task(first, corpus.part(some), some, convert)
        for first in range(0, len(paths), _FILES_PER_TASK)
        for some in [paths[first : first + _FILES_PER_TASK]]
    ]
    found: list[tuple[int, int]] = [(0, 0)] * len(paths)
    problems: list[tuple[int, str]] = []
    convertible = False
    with tqdm(total=len(paths), unit="file", desc="checking", disable=None if progress else True) as bar:
        for task, (stats, bad, other_format) in run(_check, tasks, workers=workers, progress=bar.update):
            found[task.first : task.first + len(stats)] = stats
            problems.extend(bad)
            convertible |= other_format
    if problems:
        hint = (
            " (--convert makes m4a and the like, other rates, channels, depths and unknown lengths fit)"
            if convertible
            else ""
        )
        raise ProblemsError([text for _, text in sorted(problems)], f"nothing was packed{hint}")
    return found


def _check(task: _Task, report: Report) -> tuple[list[tuple[int, int]], list[tuple[int, str]], bool]:
    """(size, mtime) of each file, problems with their rows, and whether converting would solve some."""
    stats: list[tuple[int, int]] = []
    problems: list[tuple[int, str]] = []
    convertible = False
    for row, path in enumerate(task.paths, task.first):
        name = os.path.join(task.corpus.root, path)
        size = mtime = 0
        try:
            with task.corpus.open(path) as source:
                size, mtime = source.size, source.mtime_ns
                _check_header(_window(source.file), size, name, task.convert)
        except audio.AudioError as error:
            problems.append((row, str(error)))
            convertible |= isinstance(error, audio.FormatError)
        except OSError as error:
            problems.append((row, f"{name}: cannot be read ({error.strerror})"))
        stats.append((size, mtime))
        report(1)
    return stats, problems, convertible


def _window(file: BinaryIO) -> Window:
    """What lies in the file: its beginning, read at once, and what is asked for beyond that."""
    head = file.read(_HEAD_BYTES)

    def at(start: int, count: int) -> bytes:
        if start + count <= len(head):
            return head[start : start + count]
        file.seek(start)
        return file.read(count)

    return at


def _check_header(at: Window, size: int, name: str, convert: bool) -> None:
    try:
        audio.require_fit(audio.probe_window(at, size, name), name)
    except audio.FormatError:
        if not convert:
            raise
        check_convertible(at, size, name)
