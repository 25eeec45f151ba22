"""What lies in a run's folder about its jobs; everything that status, logs and cancel know comes from here.

RUN/jobs/jobs.jsonl       one line for each job submitted, or started by sbatch
RUN/jobs/attempts.jsonl   start and end of each attempt: a job is attempted anew after each requeue
RUN/jobs/JOB_NODE_log.out what the task of a node printed
RUN/jobs/*.yaml           the complete configuration a job was submitted with
RUN/failures/*.json       what a rank, or a node, left when it failed
RUN/state.json, metrics.jsonl, log.txt, config.yaml, lock: the training's own
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from shard_tools.records import RecordError, at_least, convert, decode
from shard_tools.run_records import FAILURES, LOCK, STATE, Failure, State, Time, Whole, write_failure
from slurm.errors import SlurmError
from slurm.records.lines import lines_with

_KEPT_FAILURES = 50  # files; those of many starts would pile up

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Job:
    """A job of the run.

    job: as squeue shows it, 12 or 12_3; kind: train, eval, …; nodes, ranks_per_node: its size;
    config: the YAML it runs; overrides: the training's arguments besides; resources: what was asked
    of SLURM, for submitting it again; logs: a pattern of paths; after: the job it waits for; follows: the
    folder of the run that it begins with.
    """

    job: str
    kind: str
    nodes: Annotated[int, at_least(1)]
    ranks_per_node: Annotated[int, at_least(1)]
    logs: str
    cluster: str = "slurm"
    config: str | None = None
    overrides: tuple[str, ...] = ()
    resources: dict[str, Any] = field(default_factory=dict)
    after: str | None = None
    follows: str | None = None
    submitted: Time = field(default_factory=time.time)

    def log_paths(self) -> list[Path]:
        """The files there are, in the order of the nodes."""
        pattern = Path(self.logs)
        try:
            found = list(pattern.parent.glob(pattern.name))
        except (ValueError, OSError, NotImplementedError):  # a pattern that nobody of ours wrote
            return []
        return sorted(found, key=lambda path: [len(path.name), path.name])


Outcome = Literal["done", "stopped", "failed"]


@dataclass(frozen=True)
class Attempt:
    """attempt: JOB.RESTART; ended and outcome are None while it runs, or when it was killed outright."""

    attempt: str
    job: str
    nodes: tuple[str, ...]
    started: Time
    saved_before: Whole  # step of the newest checkpoint when it started
    ended: Time | None = None
    outcome: Outcome | None = None
    saved_after: Whole | None = None
    cause: str | None = None


@dataclass(frozen=True)
class _Lock:
    """What is of interest here of the training's lock."""

    since: Time


class RunFolder:
    """Reads and writes the records; a folder without any is an empty run."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.jobs_path = self.path / "jobs"
        self.damaged: dict[str, str] = {}  # files with what cannot be read, as it was met, and what is wrong

    # What the training says.

    def state(self) -> dict[str, Any]:
        """state.json: state, saved_step, last_step, world, host, time; {} before the first start."""
        try:
            data = (self.path / STATE).read_bytes()
        except OSError:
            return {}
        found = self._decoded(data, State, STATE)
        return {} if found is None else {name: v for name, v in asdict(found).items() if v is not None}

    def saved_step(self) -> int:
        return int(self.state().get("saved_step", 0))

    def is_done(self) -> bool:
        """Whether the training has reached the last step that it was asked for last."""
        state = self.state()
        return state.get("state") == "done" and state.get("saved_step") == state.get("last_step")

    def began(self) -> float:
        """When the training was started last, in seconds since 1970, as its lock says; 0 where nothing does.

        What failed before was mended, or may have been.
        """
        try:
            data = (self.path / LOCK).read_bytes()
        except OSError:
            return 0.0
        found = self._decoded(data, _Lock, LOCK)
        return found.since if found is not None else 0.0

    def metrics(self, group: str, last_bytes: int | None = None) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl of a group (train, validation), oldest first; of the file's end alone
        where `last_bytes` says how much of it to read.
        """
        found = lines_with(self.path / "metrics.jsonl", f'"{group}"'.encode(), last_bytes)
        return [line for line in found if line.get("group") == group]

    def beat(self) -> float | None:
        """When the training gave its last sign of life: its lock, renewed every 10 s; None without."""
        try:
            return (self.path / LOCK).stat().st_mtime
        except OSError:
            return None

    def failures(self, attempt: str | None = None) -> list[Failure]:
        """Of one attempt or of all: first causes before ranks that only lost another, then by time."""
        found = []
        for path in (self.path / FAILURES).glob("*.json"):
            if attempt is not None and not path.name.startswith(f"{attempt}-"):
                continue
            try:
                data = path.read_bytes()
            except OSError:
                continue
            # One that cannot be read may be of a disk that ran full in the midst of it.
            failure = self._decoded(data, Failure, f"failures/{path.name}")
            if failure is not None and attempt in (None, failure.attempt):
                found.append(failure)
        return sorted(found, key=lambda failure: (failure.kind == "peer", failure.time))

    # What the launcher says.

    def jobs(self) -> list[Job]:
        """Oldest first; a job is there once, as it was written last."""
        found = {}
        for line in self._lines("jobs/jobs.jsonl"):
            job = self._converted(line, Job, "jobs/jobs.jsonl")
            if job is not None:
                found[job.job] = job
        return list(found.values())

    def add_job(self, job: Job) -> None:
        self._append("jobs.jsonl", asdict(job))

    def attempts(self) -> list[Attempt]:
        """Oldest first."""
        found: dict[str, Attempt] = {}
        for line in self._lines("jobs/attempts.jsonl"):
            name = line.get("attempt")
            before = found.get(name) if isinstance(name, str) else None
            known = {"nodes": ()} | (asdict(before) if before else {})
            attempt = self._converted(known | line, Attempt, "jobs/attempts.jsonl")
            if attempt is not None:
                found[attempt.attempt] = attempt
        return list(found.values())

    def begin_attempt(self, attempt: Attempt) -> None:
        fields = {name: value for name, value in asdict(attempt).items() if value is not None}
        self._append("attempts.jsonl", fields)

    def end_attempt(self, attempt: str, outcome: Outcome, cause: str | None = None) -> None:
        fields = {"attempt": attempt, "ended": round(time.time(), 3), "outcome": outcome}
        self._append("attempts.jsonl", fields | {"saved_after": self.saved_step(), "cause": cause})

    def add_failure(self, failure: Failure) -> None:
        """Does nothing where the folder cannot be written, which may be the very failure."""
        write_failure(self.path, failure)
        with contextlib.suppress(OSError):
            _drop_old(self.path / FAILURES)

    def make(self) -> None:
        """Raises SlurmError where the folder cannot be made or written."""
        try:
            self.jobs_path.mkdir(parents=True, exist_ok=True)
            # Now, as a node that asked for it in vain might not see it for half a minute on NFS.
            (self.path / FAILURES).mkdir(exist_ok=True)
            probe = self.jobs_path / f".probe-{os.getpid()}"
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise SlurmError(
                f"the folder {self.path} cannot be written ({error.strerror}): free it, or give another one"
            ) from None

    def _decoded(self, data: bytes, kind: type[Kind], name: str) -> Kind | None:
        try:
            return decode(data, kind, name, "")
        except RecordError as error:
            self.damaged[name] = str(error)
            return None

    def _converted(self, value: Any, kind: type[Kind], name: str) -> Kind | None:
        try:
            return convert(value, kind, name, "")
        except RecordError as error:
            self.damaged[name] = str(error)
            return None

    def _lines(self, name: str) -> Iterator[dict[str, Any]]:
        """The JSON objects of a file of lines; a last one that a kill cut off is no damage."""
        try:
            data = (self.path / name).read_bytes()
        except OSError:
            return
        lines = [line for line in data.split(b"\n") if line.strip()]
        for number, line in enumerate(lines, 1):
            if number == len(lines) and not data.endswith(b"\n") and not line.rstrip().endswith(b"}"):
                return
            found = self._decoded(line, dict[str, Any], name)
            if found is not None:
                yield found

    def _append(self, name: str, fields: dict[str, Any]) -> None:
        line = json.dumps(fields) + "\n"
        try:
            self.jobs_path.mkdir(parents=True, exist_ok=True)
            with open(self.jobs_path / name, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            raise SlurmError(
                f"{self.jobs_path / name} cannot be written ({error.strerror}): free the run folder"
            ) from None


def _drop_old(folder: Path) -> None:
    """Keep the newest failures; a rank of another start may be doing the same."""
    found = sorted((path.stat().st_mtime, path) for path in folder.glob("*.json"))
    for _, path in found[:-_KEPT_FAILURES]:
        path.unlink(missing_ok=True)
