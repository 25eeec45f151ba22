"""Where our loader's time goes, augmentation on: cProfile's view of one core, per batch."""

from __future__ import annotations

import cProfile
import pstats
import tempfile
from pathlib import Path
from typing import Any

from harness.corpus import make_corpus
from harness.runner import Runner
from harness.settings import Settings
from harness.task import Entry, Task

TITLE = "Where our own time goes"
LAYOUT = "stages"
ABOUT = (
    "Milliseconds per batch in each function of voxshard's, augmentation on, WAV shards on the local"
    " disk, under cProfile (which costs a little itself). “In all” includes what a function calls, “own”"
    " does not: it is numpy's and scipy's work that has no function of its own to be counted in."
)
ENTRY = Entry("voxshard", "ours", {"augment": True})
LEAST_SHARE = 0.01  # of a batch's time, to be listed


def run(settings: Settings) -> dict[str, Any]:
    corpus = make_corpus(settings.cache, settings.local)
    with tempfile.TemporaryDirectory(dir=settings.cache) as scratch:
        found = profile(Task(corpus, ENTRY, Path(scratch)), settings)
    return {"contestants": [{"name": ENTRY.name, "status": "ok", **found}]}


def profile(task: Task, settings: Settings) -> dict[str, Any]:
    """Runs here rather than in a process of its own: a profile is read by its shares."""
    runner = Runner(task)
    runner.warm_up(settings.warm_up)
    profiler = cProfile.Profile()
    crops, seconds = 0, 0.0
    while seconds < max(settings.seconds, settings.seconds * settings.rounds / 2) or not crops:
        profiler.enable()
        found = runner.measure(0)
        profiler.disable()
        crops += found["crops"]
        seconds += found["seconds"]
    count = crops / task.batch
    functions = []
    for (file, _, name), (_, _, own, in_all, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        where = _place(Path(file))
        if where is not None and in_all >= LEAST_SHARE * seconds:
            row = {"function": f"{where}: {name}", "ms": 1000 * in_all / count, "own_ms": 1000 * own / count}
            functions.append(row)
    functions.sort(key=lambda row: -row["ms"])
    return {"ms_per_batch": 1000 * seconds / count, "functions": functions}


def _place(file: Path) -> str | None:
    """The path of a source file of voxshard's, within the project; None for other files."""
    project = Path(__file__).parents[3]
    if not file.is_relative_to(project):
        return None
    inner = file.relative_to(project)
    return str(inner) if inner.parts[0] in ("train", "shard_tools") else None
