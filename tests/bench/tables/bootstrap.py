"""Intervals over speakers of a list of VoxCeleb1-E's size, and a paired test of two systems on it."""

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

TITLE = "Bootstrap over speakers"
LAYOUT = "bootstrap"
ABOUT = (
    "Draws of the 1,251 speakers of a list, each with EER, minDCF at two operating points and the false"
    " reject rate at three false accept rates, from scores, labels and speakers on; each figure from a"
    " fresh process. Memory: how far the process's peak rose."
)
DRAWS, LIMIT = 1000, 60.0  # seconds that the intervals of one system may take
PROGRAM = Path(__file__).parents[1] / "harness" / "bootstrap_once.py"
NAMES = {"one": "intervals of one system", "pair": "paired test of two"}


def run(settings: Settings) -> dict[str, Any]:
    trials, draws = settings.bootstrap
    found: dict[str, list[dict[str, float]]] = {what: [] for what in NAMES}
    for _ in range(settings.plan_rounds):
        for what in NAMES:
            found[what].append(_measure(what, settings))
    contestants = []
    for what, runs in found.items():
        figures = {name: summary([run[name] for run in runs]) for name in runs[0]}
        aimed = what == "one" and draws == DRAWS
        met = figures["seconds"]["median"] <= LIMIT if aimed else None
        contestants.append({"name": NAMES[what], "status": "ok", "met": met, **figures})
    return {"trials": trials, "draws": draws, "limit_seconds": LIMIT, "contestants": contestants}


def _measure(what: str, settings: Settings) -> dict[str, float]:
    command = [sys.executable, str(PROGRAM), what, *map(str, settings.bootstrap)]
    command.append("all" if settings.cpu is None else str(settings.cpu))
    process = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if process.returncode:
        raise RuntimeError(last_line(process.stderr, process.returncode))
    return dict(json.loads(process.stdout))
