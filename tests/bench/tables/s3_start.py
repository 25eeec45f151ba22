"""Seconds to the first batch from S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness.contest import last_line
from harness.corpus import make_corpus
from harness.large import make_large
from harness.settings import Settings
from harness.spread import summary
from harness.stores import BUCKET, Store, absent, store

TITLE = "The first batch from S3"
LAYOUT = "start"
ABOUT = (
    "Seconds to the first batch of 200 crops from nginx, data.access direct, a process each time. *From"
    " opening*: from a process that has imported what training imports and has its configuration, by way"
    " of manifest, indexes and plan, to the first batch, the start of its reading processes included."
    " *Of which the catalogue*: until manifest, indexes and plan were there. *From the shell*: from the"
    " command on, imports included. The large set has VoxCeleb2's number of utterances; its manifest and"
    " indexes lie on the server as its shards do."
)
SMALL, LARGE = "the corpus", "the size of VoxCeleb2"
WORKERS = (0, 2)
MOST = {SMALL: 1.5, LARGE: 5.0}  # seconds from opening
REPO = Path(__file__).parents[3]
PROGRAM = Path(__file__).parents[1] / "harness" / "start_once.py"
UNITS = ("opening", "catalogue", "shell")


def run(settings: Settings) -> dict[str, Any]:
    reason = absent("nginx")
    if reason is not None:
        return {"contestants": [{"name": SMALL, "status": "not installed", "reason": reason}]}
    corpus = make_corpus(settings.cache, settings.remote, settings.speech)
    shards, each = settings.large
    large = make_large(settings.cache, shards, each)
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with store("nginx", settings.cache, settings.cpu) as started:
        started.put(corpus.shards("wav"), "small")
        started.put(large, "large")
        for _ in range(settings.remote_rounds):
            for name, prefix in ((SMALL, "small"), (LARGE, "large")):
                for workers in WORKERS:
                    url = f"s3://{BUCKET}/{prefix}"
                    figures = _measure(url, workers, corpus.size.speakers, started)
                    found.setdefault((name, workers), []).append(figures)
    return {
        "utterances": {SMALL: corpus.size.speakers * corpus.size.utterances, LARGE: shards * each},
        "contestants": [_judged(*case, runs) for case, runs in found.items()],
    }


def _judged(name: str, workers: int, runs: list[dict[str, float]]) -> dict[str, Any]:
    figures = {unit: summary([run[unit] for run in runs]) for unit in UNITS}
    met = figures["opening"]["median"] <= MOST[name]
    return {"name": name, "workers": workers, "status": "ok", "at_most": MOST[name], "met": met, **figures}


def _measure(url: str, workers: int, speakers: int, started: Store) -> dict[str, float]:
    began = time.time()
    process = subprocess.run(
        [sys.executable, str(PROGRAM), url, str(workers), str(speakers)],
        capture_output=True,
        text=True,
        env={**os.environ, **started.environment(), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
    )
    if process.returncode:
        raise RuntimeError(last_line(process.stderr, process.returncode))
    found = dict(json.loads(process.stdout.splitlines()[-1]))
    return {**found, "shell": found["at"] - began}
