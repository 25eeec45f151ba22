"""Run folders made up for status, logs and cancel, and commands of SLURM that say what a test wants."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from slurm.records.run_folder import Attempt, Failure, Job, RunFolder


class FakeSlurm:
    """squeue, scancel and scontrol at the front of PATH."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self._queue = folder / "queue"
        self._calls = folder / "calls"
        self.queue()
        self._command(folder / "squeue", f'cat "{self._queue}"')
        self._command(folder / "scontrol", "exit 0")
        # A cancelled job leaves the queue.
        cancel = (
            f'grep -v "^$1|" "{self._queue}" > "{self._queue}.new"; mv "{self._queue}.new" "{self._queue}"'
        )
        self._command(folder / "scancel", cancel)
        patch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def queue(self, *lines: str) -> None:
        """JOB|STATE|NODES|TIME LEFT|REASON each."""
        self._queue.write_text("".join(f"{line}\n" for line in lines))

    def refuse(self) -> None:
        self._command(self._queue.parent / "squeue", "echo 'squeue: error: no controller' >&2; exit 1")

    def calls(self, program: str) -> list[str]:
        """The arguments of each call."""
        text = self._calls.read_text() if self._calls.exists() else ""
        lines = [line.split(" ", 1) for line in text.splitlines()]
        return [line[1] if len(line) > 1 else "" for line in lines if line[0] == program]

    def order(self) -> list[str]:
        """The programs called, first to last."""
        return [line.split()[0] for line in self._calls.read_text().splitlines()]

    def _command(self, path: Path, script: str) -> None:
        path.write_text(f'#!/bin/sh\necho "{path.name} $*" >> "{self._calls}"\n{script}\n')
        path.chmod(0o755)


class FakeRun:
    """A run's folder, written as the launcher and the training write it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = RunFolder(path)
        self.folder.make()
        self._now = time.time()

    def job(self, job: str, kind: str = "train", *, ago: float = 1000.0, **more: Any) -> Job:
        logs = str(self.folder.jobs_path / f"{job}_*_log.out")
        made = Job(job, kind, 2, 4, logs, submitted=self._now - ago, **more)
        self.folder.add_job(made)
        return made

    def attempt(
        self,
        attempt: str,
        outcome: Any = None,
        cause: str | None = None,
        *,
        ago: float = 500.0,
        saved: int = 0,
        job: str | None = None,
    ) -> Attempt:
        job = job or attempt.partition(".")[0]
        made = Attempt(attempt, job, ("n1", "n2"), self._now - ago, saved)
        self.folder.begin_attempt(made)
        if outcome:
            self.folder.end_attempt(attempt, outcome, cause)
        return made

    def failure(
        self, message: str, *, attempt: str | None, rank: int | None = 0, host: str = "n1",
        kind: str = "crash", ago: float = 10.0,
    ) -> None:  # fmt: skip
        self.folder.add_failure(Failure(self._now - ago, kind, rank, host, attempt, message))

    def state(self, state: str, *, saved: int = 400, last: int = 1000, ago: float = 5.0) -> None:
        values = {"state": state, "saved_step": saved, "last_step": last, "world": 8, "time": self._now - ago}
        (self.path / "state.json").write_text(json.dumps(values))

    def metrics(self, *lines: dict[str, Any]) -> None:
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))

    def trained(self, steps: range, seconds_per_step: float = 0.5, ago: float = 5.0) -> None:
        """A line every steps.step steps, the last one `ago` seconds ago."""
        for step in steps:
            at = self._now - ago - (steps[-1] - step) * seconds_per_step
            rate = {"utterances_per_second": 512.4, "data_wait": 0.034}
            self.metrics({"step": step, "group": "train", "loss": 2.5, "accuracy": 0.5, **rate, "time": at})

    def validated(self, **rates: float) -> None:
        """stepN=EER in percent."""
        for name, eer in rates.items():
            self.metrics({"step": int(name[4:]), "group": "validation", "eer": eer, "time": self._now})

    def beat(self, ago: float = 0.0) -> None:
        lock = self.path / "lock"
        lock.write_text("{}")
        os.utime(lock, (self._now - ago, self._now - ago))

    def log(self, job: str, node: int, text: str) -> Path:
        path = self.folder.jobs_path / f"{job}_{node}_log.out"
        with open(path, "a") as file:
            file.write(text)
        return path
