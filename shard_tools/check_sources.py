"""A look at every source file before any is packed, so that problems show in minutes, not after hours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from tqdm import tqdm

from shard_tools import audio
from shard_tools.convert import check_convertible
from shard_tools.listing import ProblemsError
from shard_tools.workers import Report, run

_FILES_PER_TASK = 500


@dataclass(frozen=True)
class _Task:
    first: int
    root: str
    paths: Sequence[str]
    convert: bool


def check_sources(
    root: str, paths: Sequence[str], *, convert: bool, workers: int, progress: bool
) -> list[tuple[int, int]]:
    """(size in bytes, mtime in ns) of each file, in order, after a look at its header.

    Raises ProblemsError naming every file that does not exist or whose header says
    that it cannot be packed: empty, truncated, not audio, or (unless `convert`) not
    16 kHz mono 16-bit. Damage beyond the header shows only in packing.
    """
    tasks = [
        _Task(first, root, paths[first : first + _FILES_PER_TASK], convert)
        for first in range(0, len(paths), _FILES_PER_TASK)
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
        hint = " (--convert makes other rates, channels and bit depths fit)" if convertible else ""
        raise ProblemsError([text for _, text in sorted(problems)], f"nothing was packed{hint}")
    return found


def _check(task: _Task, report: Report) -> tuple[list[tuple[int, int]], list[tuple[int, str]], bool]:
    """(size, mtime) of each file, problems with their rows, and whether converting would solve some."""
    stats: list[tuple[int, int]] = []
    problems: list[tuple[int, str]] = []
    convertible = False
    for row, path in enumerate(task.paths, task.first):
        name = os.path.join(task.root, path)
        size = mtime = 0
        try:
            with open(name, "rb") as file:
                status = os.fstat(file.fileno())
                size, mtime = status.st_size, status.st_mtime_ns
                head = file.read(audio.HEADER_BYTES)
                try:
                    _check_header(head, size, name, task.convert)
                except audio.AudioError:
                    if size <= len(head):
                        raise
                    # a long chunk may come before the audio
                    _check_header(head + file.read(), size, name, task.convert)
        except audio.AudioError as error:
            problems.append((row, str(error)))
            convertible |= isinstance(error, audio.FormatError)
        except OSError as error:
            found = (
                "does not exist"
                if isinstance(error, FileNotFoundError)
                else f"cannot be read ({error.strerror})"
            )
            problems.append((row, f"{name}: {found}"))
        stats.append((size, mtime))
        report(1)
    return stats, problems, convertible


def _check_header(head: bytes, size: int, name: str, convert: bool) -> None:
    try:
        audio.require_fit(audio.probe_header(head, size, name), name)
    except audio.FormatError:
        if not convert:
            raise
        check_convertible(name)
