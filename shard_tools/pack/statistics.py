"""Silence and clipping of every utterance that is to be packed, as it will be decoded from its shard."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from shard_tools import audio
from shard_tools.arrays import Float64Array
from shard_tools.audio.convert import fitted
from shard_tools.audio.levels import clipped_share, silent_share
from shard_tools.pack.corpus import Corpus
from shard_tools.pack.listing import ProblemsError
from shard_tools.text import counted
from shard_tools.workers import Report, run

SILENT = 0.9
"""An utterance is called silent when this share of its 25 ms frames is."""
CLIPPED = 0.001
"""An utterance is called clipped when this share of its samples is."""

_FILES_PER_TASK = 100
_WORST = 10
_WORST_SAID = 3


@dataclass(frozen=True)
class _Task:
    first: int
    corpus: Corpus
    paths: Sequence[str]
    convert: bool


def measure(
    corpus: Corpus, paths: Sequence[str], *, convert: bool, workers: int, progress: bool
) -> dict[str, Any]:
    """How many of these utterances are silent or clipped, and the worst by name; ready for JSON.

    All of each file is decoded. Raises ProblemsError naming those that are damaged.
    """
    tasks = [
        _Task(first, corpus.part(some), some, convert)
        for first in range(0, len(paths), _FILES_PER_TASK)
        for some in [paths[first : first + _FILES_PER_TASK]]
    ]
    shares = np.zeros((2, len(paths)))
    problems: list[tuple[int, str]] = []
    with tqdm(total=len(paths), unit="file", desc="measuring", disable=None if progress else True) as bar:
        for task, (found, bad) in run(_measure, tasks, workers=workers, progress=bar.update):
            shares[:, task.first : task.first + found.shape[1]] = found
            problems += bad
    if problems:
        raise ProblemsError([text for _, text in sorted(problems)], "nothing was packed")
    silent, clipped = shares
    return {
        "utterances": len(paths),
        "silent": int(np.count_nonzero(silent >= SILENT)),
        "clipped": int(np.count_nonzero(clipped >= CLIPPED)),
        "most_silent": _worst(paths, silent),
        "most_clipped": _worst(paths, clipped),
    }


def lines(statistics: dict[str, Any]) -> list[str]:
    """The same for people."""
    total = statistics["utterances"]
    meaning = {
        "silent": f"{SILENT:.0%} or more of their time below -60 dB of full scale",
        "clipped": f"{CLIPPED:.1%} or more of their samples cut off at full scale",
    }
    said = []
    for kind, what in meaning.items():
        count = statistics[kind]
        worst = [f"{row['path']} ({row['share']:.2%})" for row in statistics[f"most_{kind}"][:_WORST_SAID]]
        line = f"{kind}: {count} of {counted(total, 'utterance')} ({count / max(total, 1):.2%}), {what}"
        said.append(line + (f"; the worst: {', '.join(worst)}" if worst else ""))
    return said


def _worst(paths: Sequence[str], shares: Float64Array) -> list[dict[str, Any]]:
    order = np.argsort(-shares, kind="stable")[:_WORST].tolist()
    return [{"path": paths[row], "share": round(float(shares[row]), 6)} for row in order if shares[row] > 0]


def _measure(task: _Task, report: Report) -> tuple[Float64Array, list[tuple[int, str]]]:
    shares = np.zeros((2, len(task.paths)))
    problems: list[tuple[int, str]] = []
    for number, path in enumerate(task.paths):
        name = os.path.join(task.corpus.root, path)
        try:
            with task.corpus.open(path) as source:
                data = source.file.read()
            samples = fitted(data, name).samples if task.convert else audio.decode(data, name)
            shares[:, number] = silent_share(samples), clipped_share(samples)
        except audio.AudioError as error:
            problems.append((task.first + number, str(error)))
        except OSError as error:
            problems.append((task.first + number, f"{name}: cannot be read ({error.strerror})"))
        except MemoryError:
            problems.append(
                (task.first + number, f"{name}: is more than this machine has memory for; cut it")
            )
        report(1)
    return shares, problems
