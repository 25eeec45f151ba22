"""Why a run's newest attempt failed: what its ranks and launchers left, else the telling line of the logs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from shard_tools.run_records import Failure
from slurm.records.run_folder import Attempt, Job, RunFolder

_END = 1 << 16  # bytes of a log's end to look through
_TOGETHER_S = 60.0  # ranks of a start without SLURM fail within so long of each other
# The most telling first. A line of the last two kinds is often a consequence of another node's.
_TELLING = tuple(
    re.compile(pattern)
    for pattern in (
        r"No module named|command not found|No such file or directory|Permission denied",
        r"oom.kill|DUE TO",
        r"^(?:slurm: )?(?!slurmstepd|srun).*\berror:",
        r"^[\w.]*(?:Error|Exception)\b",
        r"slurmstepd\S*: error",  # slurmstepd-n1 where nodes share a machine
        r"srun: error",
    )
)


@dataclass(frozen=True)
class FirstCause:
    """text: perhaps many lines; file: the log that it was found in, where nobody left a record."""

    text: str
    rank: int | None = None
    host: str | None = None
    time: float | None = None
    attempt: str | None = None
    file: Path | None = None

    def in_short(self) -> str:
        """Its last line, with the rank and node unless it names them."""
        line = last_line(self.text)
        if self.host is None or self.host in line:
            return line
        rank = "" if self.rank is None else f"rank {self.rank} on "
        return f"{rank}{self.host}: {line}"


def last_line(text: str | None) -> str:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def attempts_of(job: Job | None, attempts: list[Attempt]) -> list[Attempt]:
    """Oldest first; without a job, those of the newest one that left any."""
    if job is None:
        return [each for each in attempts if each.job == attempts[-1].job] if attempts else []
    return [each for each in attempts if each.job == job.job]


def first_cause(folder: RunFolder, job: Job | None, attempt: Attempt | None) -> FirstCause | None:
    """Of the failure of `attempt`, or of a job (or a start by hand, without one) that made none."""
    if attempt is None:
        return likely_cause(job) if job else _without_attempt(folder)
    if attempt.outcome in ("done", "stopped"):
        return None
    failures = folder.failures(attempt.attempt)
    if failures and failures[0].kind != "peer":
        return _of(failures[0])
    if attempt.outcome == "failed" and attempt.cause and not failures:
        return FirstCause(attempt.cause, time=attempt.ended, attempt=attempt.attempt)
    found = likely_cause(job) if job else None
    if found is None and failures:
        return _of(failures[0])
    return found


def likely_cause(job: Job) -> FirstCause | None:
    """The telling line at the end of the job's logs."""
    found: list[tuple[int, FirstCause]] = []
    for path in job.log_paths():
        for line in _last_start(path).splitlines():
            kind = _kind(line)
            if kind is not None:
                found.append((kind, FirstCause(line.strip(), file=path)))
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _kind(line: str) -> int | None:
    return next((kind for kind, pattern in enumerate(_TELLING) if pattern.search(line)), None)


def _last_start(path: Path) -> str:
    """The end of a log, of the last start that it tells of: a requeued job goes on in the same file."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _END))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return text[max(text.rfind("Starting with JobEnvironment"), 0) :]


def _without_attempt(folder: RunFolder) -> FirstCause | None:
    """Of the newest start by hand: those of its ranks come together."""
    began = folder.began()
    found = [each for each in folder.failures() if each.attempt is None and each.time >= began]
    newest = max((each.time for each in found), default=0.0)
    found = [each for each in found if each.time >= newest - _TOGETHER_S]
    return _of(found[0]) if found else None


def _of(failure: Failure) -> FirstCause:
    return FirstCause(failure.message.strip(), failure.rank, failure.host, failure.time, failure.attempt)
