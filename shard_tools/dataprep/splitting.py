"""Recordings cut into pieces of 5 s that begin every 3 s, as the VoxCeleb trainer cuts MUSAN.

A recording's pieces are a folder of its name, which appears when all are in it; so a run that was killed
goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shard_tools import audio, storage
from shard_tools.arrays import Int16Array
from shard_tools.audio.convert import fitted
from shard_tools.audio.regular_file import open_regular
from shard_tools.dataprep import pace
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.walk import audio_files
from shard_tools.storage.errors import explain
from shard_tools.workers import Report, run

PIECE_S, EVERY_S = 5, 3


@dataclass(frozen=True)
class Split:
    """recordings: all; short: those that give no piece; pieces: all that there are."""

    recordings: int
    short: int
    pieces: int


@dataclass(frozen=True)
class _Task:
    source: str
    target: str
    convert: bool


@dataclass(frozen=True)
class _Result:
    pieces: int
    problem: str | None = None


def cut(samples: Int16Array) -> list[tuple[int, Int16Array]]:
    """(second, piece) of samples (frames,): 5 s each, beginning every 3 s, ending before the recording does.

    A recording of just 5 s gives none, as `range(0, frames - piece, step)` of the trainer does.
    """
    piece, step = PIECE_S * audio.SAMPLE_RATE, EVERY_S * audio.SAMPLE_RATE
    starts = range(0, len(samples) - piece, step)
    return [(start // audio.SAMPLE_RATE, samples[start : start + piece]) for start in starts]


def split(
    root: Path, out: Path, categories: Sequence[str], *, convert: bool = False, workers: int = 1
) -> Split:
    """Cut every recording below the categories' folders of `root`: out/a/b.wav → out/a/b/00003.wav and so on.

    convert: take what is not 16 kHz, mono, 16-bit too. Raises ProblemsError, when all else is done, for
    recordings that cannot be read.
    """
    tasks, problems = [], []
    for category in categories:
        paths, unseen = audio_files(str(root / category))
        problems += unseen
        for path in paths:
            target = out / category / os.path.splitext(path)[0]
            tasks.append(_Task(str(root / category / path), str(target), convert))
    if problems:
        raise ProblemsError(problems, "nothing was cut")
    short = pieces = 0
    with pace.shown("cutting", len(tasks)) as report:
        for _, result in run(_split, tasks, workers=workers, progress=report):
            if result.problem:
                problems.append(result.problem)
            short += result.pieces == 0
            pieces += result.pieces
    if problems:
        raise ProblemsError(sorted(problems), "mend or remove them and run again (what was cut is kept)")
    return Split(len(tasks), short, pieces)


def _split(task: _Task, report: Report) -> _Result:
    try:
        return _Result(_one(task))
    except audio.AudioError as error:
        return _Result(0, str(error))
    except OSError as error:
        raise storage.StorageError(explain(error, error.filename or task.target)) from error
    finally:
        report(1)


def _one(task: _Task) -> int:
    if os.path.isdir(task.target):
        return len(os.listdir(task.target))
    with open_regular(task.source, task.source) as file:
        data = file.read()
    samples = fitted(data, task.source).samples if task.convert else audio.decode(data, task.source)
    pieces = cut(samples)
    if not pieces:
        return 0
    folder, base = os.path.split(task.target)
    draft = os.path.join(folder, f".{base}.part")
    shutil.rmtree(draft, ignore_errors=True)
    os.makedirs(draft)
    for second, piece in pieces:
        Path(draft, f"{second:05d}.wav").write_bytes(audio.encode(piece, "wav"))
    os.rename(draft, task.target)
    return len(pieces)
