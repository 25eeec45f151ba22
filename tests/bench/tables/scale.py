"""Opening a set of a hundred million utterances, and what a million of them costs by epochs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.contest import last_line
from harness.settings import Settings
from harness.spread import summary

TITLE = "Opening very large sets"
LAYOUT = "scale"
ABOUT = (
    "From a URL on the local disk to the plan of the first batch, with what a run opens for that, in four"
    " processes at once that have imported what they need, as of a node; figures are of one process."
    " “Private”: MiB that it has for itself afterwards; “PSS”: with its part of what the four share. By"
    " windows of 16 shards of 1,000 utterances; “parsed”: with the manifest alone, as in sets of before its"
    " table was there. Then from opening the loader in such a process until both of two reading processes"
    " have planned their first batch, and what one of them has in memory, all that it has loaded included."
    " Made-up sets, without audio, whose shards share a few indexes."
)
PROGRAM = Path(__file__).parents[1] / "harness" / "scale_once.py"
METHODS = ("fork", "forkserver")
LIMITS = {"cpu_seconds": 2.0, "private_mib": 50.0}  # of the mapped one


def run(settings: Settings) -> dict[str, Any]:
    shards, speakers, at_once = settings.scale
    few = min(shards, 1092)
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        mapped, parsed, million = (Path(folder) / name for name in ("mapped", "parsed", "million"))
        _make(mapped, shards, speakers)
        _make(million, few, min(speakers, 6 * few))
        shutil.copytree(mapped, parsed, ignore=shutil.ignore_patterns("manifest-*.npz"))
        cases = (
            ("windows, mapped", mapped, "windows"),
            ("windows, parsed", parsed, "windows"),
            ("epochs", million, "epoch"),
        )
        contestants = []
        for name, where, order in cases:
            runs = [
                each for _ in range(settings.plan_rounds) for each in _measure(str(where), order, at_once)
            ]
            figures = {unit: summary([run[unit] for run in runs]) for unit in runs[0] if unit != "utterances"}
            contestants.append({"name": name, "status": "ok", "utterances": runs[0]["utterances"], **figures})
        starts = []
        for name, where, order in (cases[0], cases[2]):
            for method in METHODS:
                runs = [_start(str(where), order, method) for _ in range(settings.plan_rounds)]
                figures = {
                    unit: summary([run[unit] for run in runs]) for unit in runs[0] if unit != "utterances"
                }
                starts.append(
                    {"name": name, "method": method, "utterances": runs[0]["utterances"], **figures}
                )
    mapped_one = contestants[0]
    mapped_one["met"] = {unit: mapped_one[unit]["median"] <= limit for unit, limit in LIMITS.items()}
    return {"speakers": speakers, "limits": LIMITS, "contestants": contestants, "starts": starts}


def _make(folder: Path, shards: int, speakers: int) -> None:
    command = [sys.executable, str(PROGRAM), "make", str(folder), str(shards), str(speakers)]
    _checked(subprocess.Popen(command, env=_environment()))


def _environment() -> dict[str, str]:
    """Of processes that import this very voxshard."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}


def _measure(url: str, order: str, at_once: int) -> list[dict[str, float]]:
    """Of each of the processes that open it at once."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), "open", url, order],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=_environment(),
        )
        for _ in range(at_once)
    ]
    for _ in range(3):
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "here\n":
                _checked(process)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
    return [dict(json.loads(_checked(process))) for process in processes]


def _start(url: str, order: str, method: str) -> dict[str, float]:
    command = [sys.executable, str(PROGRAM), "start", url, order, method]
    return dict(
        json.loads(_checked(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())))
    )


def _checked(process: subprocess.Popen[Any]) -> str:
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(last_line("", process.returncode))
    return str(output)
