"""Packing on the local disk: beside GNU tar, with one worker and two, and many tiny files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.contest import last_line
from harness.corpus import make_corpus
from harness.settings import Settings
from harness.spread import Target, ratios, summary

TITLE = "Packing"
LAYOUT = "packing"
ABOUT = (
    "The WAVs of the corpus (8 s each), warm in the page cache, into shards beside them; all that is "
    "written is synced to the disk before the clock stops. GNU tar makes one tar of the same files and "
    "syncs it. Two cores; each figure from a fresh process, the clock running from where it has imported "
    "what it needs; in rounds in which all take their turns. A ratio of “MB per CPU second” tells how "
    "much more there is to compute: a SHA-256 of each shard and a CRC-32 of each 8 KiB. “Encoding alone”:"
    " the same files to FLAC in memory by so many processes, with nothing between them: what more this "
    "machine's second core can bring. “Tiny”: utterances of 20 ms, one worker; memory is the process's "
    "peak."
)
TAR, KEEP, KEEP_2 = "GNU tar", "unchanged, 1 worker", "unchanged, 2 workers"
FLAC, FLAC_2 = "to FLAC, 1 worker", "to FLAC, 2 workers"
ENCODE, ENCODE_2 = "encoding alone, 1 process", "encoding alone, 2 processes"
UNITS = ("mb_per_second", "mb_per_cpu_second")
TARGETS = (
    Target(KEEP_2, TAR, 0.7),
    Target(KEEP, TAR),
    Target(FLAC_2, FLAC, 1.8),
    Target(ENCODE_2, ENCODE),
)
PROGRAM = Path(__file__).parents[1] / "harness" / "pack_once.py"


def run(settings: Settings) -> dict[str, Any]:
    corpus = make_corpus(settings.cache, settings.local)
    scratch = Path(tempfile.mkdtemp(prefix="packing-", dir=settings.cache))
    try:
        size = sum(path.stat().st_size for path in corpus.files())
        runs = _contest(corpus.speech, scratch, settings)
        contestants = [_figures(name, found, size / 1e6) for name, found in runs.items()]
        tiny = [_tiny(count, scratch) for count in settings.tiny_utterances]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    found = {"contestants": contestants, "ratios": ratios(contestants, TARGETS, UNITS), "tiny": tiny}
    return {"megabytes": size / 1e6, **found}


def _figures(name: str, runs: list[dict[str, float]], megabytes: float) -> dict[str, Any]:
    return {
        "name": name,
        "status": "ok",
        "mb_per_second": summary([megabytes / run["seconds"] for run in runs]),
        "mb_per_cpu_second": summary([megabytes / run["cpu_seconds"] for run in runs]),
    }


def _contest(source: Path, scratch: Path, settings: Settings) -> dict[str, list[dict[str, float]]]:
    turns: dict[str, Callable[[], dict[str, float]]] = {
        TAR: lambda: _once("tar", source, scratch / "out", "0", "keep"),
        KEEP: lambda: _once("pack", source, scratch / "out", "1", "keep"),
        KEEP_2: lambda: _once("pack", source, scratch / "out", "2", "keep"),
        FLAC: lambda: _once("pack", source, scratch / "out", "1", "flac"),
        FLAC_2: lambda: _once("pack", source, scratch / "out", "2", "flac"),
        ENCODE: lambda: _once("encode", source, scratch / "out", "1", "flac"),
        ENCODE_2: lambda: _once("encode", source, scratch / "out", "2", "flac"),
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in turns}
    _once("tar", source, scratch / "out", "0", "keep")  # the page cache is warm from here on
    for _ in range(settings.pack_rounds):
        for name, turn in turns.items():
            found[name].append(turn())
    return found


def _tiny(count: int, scratch: Path) -> dict[str, float]:
    _once("make_tiny", scratch / "tiny", scratch / "out", str(count), "keep")
    try:
        return {"utterances": count} | _once("pack", scratch / "tiny", scratch / "out", "1", "keep")
    finally:
        shutil.rmtree(scratch / "tiny")


def _once(what: str, source: Path, target: Path, number: str, form: str) -> dict[str, float]:
    """seconds, cpu_seconds, peak_mib of one turn of the program; what it wrote is removed."""
    os.sync()  # of what was written before
    command = [sys.executable, str(PROGRAM), what, str(source), str(target), number, form]
    process = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    shutil.rmtree(target, ignore_errors=True)
    if process.returncode:
        raise RuntimeError(last_line(process.stderr, process.returncode))
    return dict(json.loads(process.stdout))
