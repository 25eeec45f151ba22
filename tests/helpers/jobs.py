"""Runs on a test's SLURM: submitted as a user would, watched, disturbed, and compared."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import processes
import torch
from cluster import ENDED, Cluster
from project import REPO

from slurm.__main__ import main
from slurm.submit import train_config


def first_of_path(folder: Path) -> dict[str, str]:
    """An environment in which every Python runs the sitecustomize.py of `folder` first."""
    places = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(places)}


PACED = first_of_path(REPO / "tests/helpers/paced")
# The same, and torchrun forks its ranks; for tests that start many.
FORKED = first_of_path(REPO / "tests/helpers/forked")


def environment(cluster: Cluster | None = None, **more: str) -> dict[str, str]:
    """Of a program; jobs that it starts on a cluster train at a pace that leaves time to disturb them."""
    own = {} if cluster is None else {**cluster.environment, **PACED}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1", **more}


def slurm(cluster: Cluster, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python -m slurm …`, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "slurm", *arguments],
        cwd=REPO,
        env=environment(cluster, **more),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def submit(cluster: Cluster, *arguments: str, **more: str) -> list[str]:
    """The ids of the jobs that `slurm …` submits in this process."""
    return launched(ask(cluster, *arguments, **more))


def ask(cluster: Cluster, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`slurm …` in this process; the training that it asks starts warm.

    Torchrun forks its ranks, unless PYTHONPATH is given.
    """
    warm = SimpleNamespace(run=processes.answer, DEVNULL=subprocess.DEVNULL)
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment(cluster, **{**FORKED, **more})),
        mock.patch.object(train_config, "subprocess", warm),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(list(arguments))
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


def launched(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The ids of the jobs that a command says it submitted."""
    assert done.returncode == 0, done.stderr
    return [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if line.startswith("job ")]


def step(run: Path) -> int:
    """Of the last line of the run's metrics; 0 before the first."""
    try:
        lines = (run / "metrics.jsonl").read_text().splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, IndexError, ValueError):
        return 0


# Not what is measured, but where waiting ends: a machine may be several times as slow as another.
PATIENCE_S = 300.0


def until(condition: Callable[[], bool], what: str, run: Path, timeout: float = PATIENCE_S) -> None:
    """Wait; an AssertionError with what the run's jobs printed when it does not come about."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not happen within {timeout:g} s\n{printed(run)}")
        time.sleep(0.5)  # asking SLURM starts a process each time


def reach(run: Path, wanted: int) -> None:
    until(lambda: step(run) >= wanted, f"step {wanted}", run)


def finish(cluster: Cluster, job: str, run: Path, timeout: float = PATIENCE_S) -> str:
    """The final state, with every wait that SLURM puts before a requeued job's start cut short."""

    def ended() -> bool:
        state = cluster.state(job)
        if state == "PENDING":
            _release(cluster, job)
        return state in ENDED

    until(ended, f"the end of job {job}", run, timeout)
    return cluster.state(job)


def restarted(cluster: Cluster, job: str, run: Path, count: int) -> None:
    """Wait until the job runs for the (count + 1)th time."""

    def again() -> bool:
        fields = cluster.job(job)
        if fields["JobState"] == "PENDING":
            _release(cluster, job)
        return fields["JobState"] == "RUNNING" and int(fields["Restarts"]) >= count

    until(again, f"restart {count} of job {job}", run)


def _release(cluster: Cluster, job: str) -> None:
    with contextlib.suppress(RuntimeError):  # it started meanwhile
        cluster.release(job)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def attempts(run: Path) -> list[dict[str, Any]]:
    """Each attempt with its start and its end in one."""
    found: dict[str, dict[str, Any]] = {}
    for record in records(run / "jobs" / "attempts.jsonl"):
        found.setdefault(record["attempt"], {}).update(record)
    return list(found.values())


def printed(run: Path) -> str:
    """The ends of all that the run's jobs printed."""
    paths = sorted((run / "jobs").glob("*_log.out"))
    return "\n".join(f"--- {path}\n{path.read_text(errors='replace')[-4000:]}" for path in paths)


def final_state(run: Path) -> dict[str, Any]:
    checkpoint = sorted((run / "checkpoints").glob("step-*.pt"))[-1]
    return torch.load(checkpoint, weights_only=True)


def assert_same_weights(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["step"] == second["step"]
    for part in ("network", "loss"):
        assert first[part].keys() == second[part].keys()
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), f"{part}.{name} differs"
