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
    " Then from the URL of a set to augment with to what clips are drawn from, by as many processes: “once"
    " on the node” is the CPU time of the processes that count its recordings for all. Made-up sets,"
    " without audio, whose shards share a few indexes."
)
PROGRAM = Path(__file__).parents[1] / "harness" / "scale_once.py"
METHODS = ("fork", "forkserver")
AUGMENTED = (("noise", "noise"), ("noise of a category", "music"), ("rooms", "reverberation"))
LIMITS = {"cpu_seconds": 2.0, "private_mib": 50.0}  # of the mapped one


def run(settings: Settings) -> dict[str, Any]:
    shards, speakers, at_once = settings.scale
    few = min(shards, 1092)
    with tempfile.TemporaryDirectory(dir=settings.cache) as folder:
        mapped, parsed, million, noise = (
            Path(folder) / name for name in ("mapped", "parsed", "million", "noise")
        )
        _make(mapped, shards, speakers)
        _make(million, few, min(speakers, 6 * few))
        _make(noise, max(shards // 10, 1), 3)
        shutil.copytree(mapped, parsed, ignore=shutil.ignore_patterns("manifest-*.npz"))
        cases = (
            ("windows, mapped", mapped, "windows"),
            ("windows, parsed", parsed, "windows"),
            ("epochs", million, "epoch"),
        )
        contestants = []
        for name, where, order in cases:
            runs = [
                each
                for _ in range(settings.plan_rounds)
                for each in _measure(at_once, "open", str(where), order)
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
        augmented = [
            {"name": name, **_augmented(noise, kind, settings.plan_rounds, at_once)}
            for name, kind in AUGMENTED
        ]
    for each in (contestants[0], *augmented):
        each["met"] = {unit: each[unit]["median"] <= limit for unit, limit in LIMITS.items()}
    return {
        "speakers": speakers,
        "limits": LIMITS,
        "contestants": contestants,
        "starts": starts,
        "augmented": augmented,
    }


def _augmented(where: Path, kind: str, rounds: int, at_once: int) -> dict[str, Any]:
    """Of processes of a node that has nothing of the set yet."""
    runs, once = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(dir=where.parent) as node:
            own = _measure(at_once, "augment", str(where), kind, node)
        once.append(sum(run.pop("node_seconds") for run in own))
        runs += own
    units = [unit for unit in runs[0] if unit != "utterances"]
    figures = {unit: summary([run[unit] for run in runs]) for unit in units}
    return {"utterances": int(runs[0]["utterances"]), **figures, "node_seconds": summary(once)}


def _make(folder: Path, shards: int, speakers: int) -> None:
    command = [sys.executable, str(PROGRAM), "make", str(folder), str(shards), str(speakers)]
    _checked(subprocess.Popen(command, env=_environment()))


def _environment() -> dict[str, str]:
    """Of processes that import this very voxshard."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}


def _measure(at_once: int, *words: str) -> list[dict[str, float]]:
    """Of each of so many processes that do it at once."""
    processes = [
        subprocess.Popen(
            [sys.executable, str(PROGRAM), *words],
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
