"""What lies in a run's folder, read once for all that is to be said of it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slurm.records.run_folder import Attempt, Job, RunFolder
from slurm.watch.first_cause import attempts_of

_END = 1 << 16  # bytes of metrics.jsonl's end: some 300 lines


@dataclass(frozen=True)
class Seen:
    """main: the newest training, or the newest job where there is none; attempts: of the main job.

    beat: time of the training's last sign of life; own: whether the jobs are this user's; trained: the last
    lines of metrics.jsonl; validated: all lines of validations.
    """

    folder: RunFolder
    jobs: list[Job]
    main: Job | None
    attempts: list[Attempt]
    state: dict[str, Any]
    beat: float | None
    own: bool
    trained: list[dict[str, Any]]
    validated: list[dict[str, Any]]

    @classmethod
    def read(cls, folder: RunFolder) -> Seen:
        jobs = folder.jobs()
        main = main_job(jobs)
        return cls(
            folder=folder,
            jobs=jobs,
            main=main,
            attempts=attempts_of(main, folder.attempts()),
            state=folder.state(),
            beat=folder.beat(),
            own=_own(folder),
            trained=folder.metrics("train", _END),
            validated=folder.metrics("validation"),
        )

    @property
    def attempt(self) -> Attempt | None:
        """The newest."""
        return self.attempts[-1] if self.attempts else None

    def said(self) -> str | None:
        """What the training says of itself, unless it did so before the newest job or attempt."""
        own = self.state.get("attempt")  # it may not say: a start by hand has none
        if own is not None and self.attempt is not None and own != self.attempt.attempt:
            return None
        since = self.attempt.started if self.attempt else self.main.submitted if self.main else 0.0
        written = number(self.state.get("time"))
        if written is None or written < since:
            return None
        return str(self.state.get("state"))


def _own(folder: RunFolder) -> bool:
    try:
        return (folder.jobs_path / "jobs.jsonl").stat().st_uid == os.getuid()
    except OSError:
        return True


def main_job(jobs: Sequence[Job]) -> Job | None:
    trainings = [job for job in jobs if job.kind == "train"]
    newest = (trainings or list(jobs))[-1:]
    return newest[0] if newest else None


def number(value: Any) -> float | None:
    """None for what is none, and for the NaN or infinity of a loss that went astray."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None
