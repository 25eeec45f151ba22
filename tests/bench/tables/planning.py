"""Planning an epoch of a corpus of VoxCeleb2's size, and going to any step of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.contest import last_line
from harness.settings import Settings
from harness.spread import summary

TITLE = "Planning"
LAYOUT = "planning"
ABOUT = (
    "1,092,009 utterances of 5,994 speakers, in batches of P speakers × K utterances, each figure from a"
    " fresh process. “Epoch”: from labels to the first batch. “Seek”: from nothing to a random step"
    " of a later epoch. “Next”: each further batch. Memory: how far the process's peak rose."
)
SPEAKERS = 5994
SHAPES = ((200, 1), (100, 2), (64, 1))
LIMITS = {"epoch_seconds": 3.0, "peak_mib": 300.0}
PROGRAM = Path(__file__).parents[1] / "harness" / "plan_once.py"


def run(settings: Settings) -> dict[str, Any]:
    found: dict[tuple[int, int], list[dict[str, float]]] = {shape: [] for shape in SHAPES}
    for _ in range(settings.plan_rounds):
        for shape in SHAPES:
            found[shape].append(_measure(shape, settings))
    contestants = []
    for (speakers, each), runs in found.items():
        figures = {name: summary([run[name] for run in runs]) for name in runs[0]}
        met = {name: figures[name]["median"] <= limit for name, limit in LIMITS.items()}
        name = f"P = {speakers}, K = {each}"
        contestants.append({"name": name, "status": "ok", "limits": LIMITS, "met": met, **figures})
    return {"contestants": contestants}


def _measure(shape: tuple[int, int], settings: Settings) -> dict[str, float]:
    command = [sys.executable, str(PROGRAM), str(settings.plan_utterances), str(SPEAKERS), *map(str, shape)]
    command.append("all" if settings.cpu is None else str(settings.cpu))
    process = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if process.returncode:
        raise RuntimeError(last_line(process.stderr, process.returncode))
    return dict(json.loads(process.stdout))
