"""Scoring a list of VoxCeleb1-E's size, against the VoxCeleb trainer's loop over its trials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.contest import last_line
from harness.settings import Settings
from harness.spread import Target, ratios, summary

TITLE = "Scoring"
LAYOUT = "scoring"
LOOP, COSINE, EUCLIDEAN = "the trainer's loop, a trial at a time", "cosine", "euclidean"
ONE = "cosine, one embedding each"
LOOP_ONE = "a dot product at a time, one embedding each"
UNITS = ("trials_per_second", "trials_per_cpu_second")
TARGETS = (Target(COSINE, LOOP, 60.0), Target(EUCLIDEAN, LOOP, 8.0), Target(ONE, LOOP_ONE))
AS_NORM = {"seconds": 60.0, "mib": 2048.0}
ABOUT = (
    "{trials:,} trials over {utterances:,} utterances, four with each as the left one, 10 crops a side, 512"
    " dimensions: all in one process on one core, in turns on the same embeddings, from names to scores."
    " The loop goes over {loop:,} trials spread over the list: lengths brought to 1, torch.cdist, the mean."
    " Memory: how far the process's peak rose above the embeddings ({embeddings_mib:,.0f} MiB). Error: the"
    " largest difference from float64 on {loop:,} trials. Targets are held against CPU time, which others on"
    " the machine disturb less."
)
PROGRAM = Path(__file__).parents[1] / "harness" / "score_once.py"


def run(settings: Settings) -> dict[str, Any]:
    """One dict a contestant: name, status, summaries of UNITS, mib and error; ratios; and AS-norm."""
    size = (settings.score_utterances, settings.score_loop, settings.score_cohort, settings.score_rounds)
    command = [sys.executable, str(PROGRAM), *map(str, size)]
    command.append("all" if settings.cpu is None else str(settings.cpu))
    # One thread of each mathematical library, whichever numpy was built with.
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    process = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **threads})
    if process.returncode:
        raise RuntimeError(last_line(process.stderr, process.returncode))
    found = json.loads(process.stdout)
    contestants = [
        {
            "name": name,
            "status": "ok",
            **{unit: summary([turn[unit] for turn in turns]) for unit in (*UNITS, "mib", "error")},
        }
        for name, turns in zip((LOOP, COSINE, EUCLIDEAN, LOOP_ONE, ONE), found["turns"], strict=True)
    ]
    rows = ratios(contestants, TARGETS, UNITS)
    for row in rows:
        row["met"] = None if row["at_least"] is None else row["cpu"]["median"] >= row["at_least"]
    norm = found["as_norm"]
    norm["met"] = norm["cpu_seconds"] <= AS_NORM["seconds"] and norm["mib"] <= AS_NORM["mib"]
    about = ABOUT.format(**found["size"])
    return {"about": about, "contestants": contestants, "ratios": rows, "as_norm": norm}
