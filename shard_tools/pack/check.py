"""A look at every source file before any is packed, so that problems show in minutes, not after hours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from tqdm import tqdm

from shard_tools import audio
from shard_tools.audio.convert import check_convertible, seconds
from shard_tools.audio.info import SAMPLE_RATE, Window
from shard_tools.audio.plain_wav import HEAD_BYTES, plain_wav
from shard_tools.pack.corpus import Corpus
from shard_tools.pack.listing import ProblemsError
from shard_tools.workers import Report, run

_FILES_PER_TASK = 500
_MANY_FILES = 20_000  # that it takes as long to look at as to start processes for it


class Checked(NamedTuple):
    """What a look at a file told.

    size: in bytes; mtime_ns: when it was last written; codec: of a file that shards can hold as it is, else
    None; seconds: how long it is, -1 where that was not asked for.
    """

    size: int
    mtime_ns: int
    codec: audio.Codec | None = None
    seconds: float = -1.0


@dataclass(frozen=True)
class _Task:
    first: int
    corpus: Corpus
    paths: Sequence[str]
    convert: bool
    lengths: bool


def check_sources(
    corpus: Corpus,
    paths: Sequence[str],
    *,
    convert: bool,
    workers: int,
    progress: bool,
    lengths: bool = False,
) -> list[Checked]:
    """What a look at each file told, in order.

    lengths: tell seconds too, which of some kinds of audio takes decoding all of it.

    Raises ProblemsError naming every file that does not exist or whose header says
    that it cannot be packed: empty, truncated, not audio, or (unless `convert`) not
    16 kHz mono 16-bit. Damage beyond the header shows only in packing.
    """
    tasks = [
        _Task(first, corpus.part(some), some, convert, lengths)
        for first in range(0, len(paths), _FILES_PER_TASK)
        for some in [paths[first : first + _FILES_PER_TASK]]
    ]
    found: list[Checked] = [Checked(0, 0)] * len(paths)
    problems: list[tuple[int, str]] = []
    convertible = False
    with tqdm(total=len(paths), unit="file", desc="checking", disable=None if progress else True) as bar:
        few = len(paths) < _MANY_FILES
        looks = run(_check, tasks, workers=workers, progress=bar.update, threads=few)
        for task, (some, bad, other_format) in looks:
            found[task.first : task.first + len(some)] = some
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


def _check(task: _Task, report: Report) -> tuple[list[Checked], list[tuple[int, str]], bool]:
    """What each file told, problems with their rows, and whether converting would solve some."""
    found: list[Checked] = []
    problems: list[tuple[int, str]] = []
    convertible = False
    for row, path in enumerate(task.paths, task.first):
        name = os.path.join(task.corpus.root, path)
        checked = Checked(0, 0)
        try:
            with task.corpus.open(path) as source:
                codec, length = _header(window_of(source.file), source.size, name, task)
                checked = Checked(source.size, source.mtime_ns, codec, length)
        except audio.AudioError as error:
            problems.append((row, str(error)))
            convertible |= isinstance(error, audio.FormatError)
        except OSError as error:
            problems.append((row, f"{name}: cannot be read ({error.strerror})"))
        except MemoryError:  # of some kinds of audio the length takes decoding
            problems.append((row, f"{name}: is more than this machine has memory for; cut it"))
        found.append(checked)
        report(1)
    return found, problems, convertible


def window_of(file: BinaryIO) -> Window:
    """What lies in the file: its beginning, read at once, and what is asked for beyond that."""
    head = file.read(HEAD_BYTES)

    def at(start: int, count: int) -> bytes:
        if start + count <= len(head):
            return head[start : start + count]
        file.seek(start)
        return file.read(count)

    return at


def _header(at: Window, size: int, name: str, task: _Task) -> tuple[audio.Codec | None, float]:
    """(codec, seconds) as Checked has them."""
    info = plain_wav(at(0, min(size, HEAD_BYTES)), size)
    try:
        if info is None:
            info = audio.probe_window(at, size, name)
            audio.require_fit(info, name)
    except audio.FormatError:
        if not task.convert:
            raise
        check_convertible(at, size, name)
        return None, seconds(at, size, name) if task.lengths else -1.0
    return info.codec, info.frames / SAMPLE_RATE if task.lengths else -1.0
