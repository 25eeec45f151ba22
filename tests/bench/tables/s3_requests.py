"""Ranged requests of 64 KiB to nginx: what a client costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.contest import last_line
from harness.corpus import make_corpus
from harness.settings import Settings
from harness.spread import Target, ratios, summary
from harness.stores import BUCKET, Store, absent, store

TITLE = "Requests to S3"
LAYOUT = "requests"
ABOUT = (
    "GETs of 64 KiB from random places of the shards, 200 at a time, one process on one core, from"
    " nginx on another: what a client costs. *voxshard*: as its reader asks, with every answer checked and"
    " copied to where it belongs, by obstore; and by s3fs, which it does without the extra `s3`."
    " *s3fs alone*: its `cat_ranges`. *obstore alone*: `get` from 32 threads, and `get_async` from one."
)
OURS, WITHOUT, S3FS = "voxshard", "voxshard without obstore", "s3fs alone"
CLIENTS = {
    OURS: "voxshard",
    WITHOUT: "voxshard-s3fs",
    S3FS: "s3fs",
    "obstore alone, threads": "obstore",
    "obstore alone, asyncio": "obstore-asyncio",
}
AT_ONCE = 200
UNITS = ("gets_per_second", "gets_per_cpu_second")
TARGETS = (Target(OURS, S3FS, 8.0), Target(OURS, WITHOUT, 8.0), Target(OURS, "obstore alone, threads"))
PROGRAM = Path(__file__).parents[1] / "harness" / "gets_once.py"


def run(settings: Settings) -> dict[str, Any]:
    reason = absent("nginx")
    if reason is not None:
        missing = [{"name": name, "status": "not installed", "reason": reason} for name in CLIENTS]
        return {"contestants": missing, "ratios": []}
    corpus = make_corpus(settings.cache, settings.remote, settings.speech)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
    failed: dict[str, str] = {}
    with store("nginx", settings.cache, settings.cpu) as started:
        started.put(corpus.shards("wav"), "wav")
        for _ in range(settings.rounds):
            for name, client in CLIENTS.items():
                if name not in failed:
                    try:
                        found[name].append(_measure(client, settings, started))
                    except RuntimeError as error:
                        failed[name] = str(error)
    contestants: list[dict[str, Any]] = []
    for name, runs in found.items():
        if name in failed:
            contestants.append({"name": name, "status": "failed", "reason": failed[name]})
        else:
            figures = {unit: summary([run[unit] for run in runs]) for unit in UNITS}
            contestants.append({"name": name, "status": "ok", **figures})
    return {"contestants": contestants, "ratios": ratios(contestants, TARGETS, UNITS, by_cpu=True)}


def _measure(client: str, settings: Settings, started: Store) -> dict[str, float]:
    cpu = "all" if settings.cpu is None else str(settings.cpu)
    process = subprocess.run(
        [
            sys.executable,
            str(PROGRAM),
            client,
            f"s3://{BUCKET}/wav",
            str(settings.gets),
            str(min(AT_ONCE, settings.gets)),
            cpu,
        ],
        capture_output=True,
        text=True,
        env={**os.environ, **started.environment(), "OMP_NUM_THREADS": "1"},
    )
    if process.returncode:
        raise RuntimeError(last_line(process.stderr, process.returncode))
    return dict(json.loads(process.stdout))
