"""In one word how a run, and each of its jobs, stands; and in one line why."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from slurm.records import local_jobs
from slurm.records.run_folder import Attempt, Job
from slurm.records.scheduler import Queued
from slurm.watch.first_cause import first_cause, last_line, likely_cause
from slurm.watch.seen import Seen, number

State = Literal["pending", "running", "waiting", "stopped", "done", "failed", "lost", "unknown"]
Queue = Mapping[str, Queued] | None  # the jobs that wait or run, by id; None where SLURM cannot be asked

ON_ITS_WAY = ("pending", "running", "waiting")
IN_PROGRESS = ("RUNNING", "SIGNALING", "RESIZING", "STAGE_OUT")  # of squeue's states
_STILL_S = 60.0  # six beats of the training's lock


def run_state(seen: Seen, queue: Queue, now: float) -> tuple[State, str]:
    """The run's state, and why it waits, failed or was lost ("" where there is nothing to say).

    now: seconds since 1970, to tell a beating lock from one that stands still.
    """
    job = seen.main
    if job is not None and job.kind != "train" and seen.said() is None:
        return job_state(job, queue)
    queued = queue.get(job.job) if queue and job else None
    if queued is not None and queued.state in IN_PROGRESS:
        return _in_progress(seen)
    if queued is not None and queued.state != "COMPLETING":
        return _in_queue(seen, queued)
    return _by_files(seen, queue, now, leaving=queued is not None)


def job_state(job: Job, queue: Queue) -> tuple[State, str]:
    """Of a job whose only record is the queue and submitit's, such as an evaluation."""
    queued = queue.get(job.job) if queue else None
    if queued is not None and queued.state in (*IN_PROGRESS, "COMPLETING"):
        return "running", ""
    if queued is not None:
        return "pending", _waits_for(queued)
    if _succeeded(job) or job.cluster == "debug":  # which is noted when it has ended well
        return "done", ""
    if local_jobs.alive(job):
        return "running", ""
    if queue is None and job.cluster == "slurm":
        return "unknown", ""
    found = likely_cause(job)
    if found is not None:
        return "failed", found.in_short()
    return ("failed", "left no word") if job.log_paths() else ("stopped", _gone(job))


def _gone(job: Job) -> str:
    why = f"as job {job.after}, for which it waited, failed?" if job.after else "cancelled?"
    return f"job {job.job} left the queue before it began: {why}"


def _in_progress(seen: Seen) -> tuple[State, str]:
    attempt = seen.attempt
    if attempt is not None and attempt.outcome == "done":
        return "done", ""
    if attempt is not None and attempt.outcome is not None:
        return "waiting", f"between two starts; the last one {_ended(seen)}"
    return "running", "" if seen.said() else "starting"


def _in_queue(seen: Seen, queued: Queued) -> tuple[State, str]:
    if not seen.attempts:
        return "pending", _waits_for(queued)
    return "waiting", f"{_waits_for(queued)}; the last start {_ended(seen)}"


def _waits_for(queued: Queued) -> str:
    reason = "" if queued.reason in ("None", "") else queued.reason
    if queued.state == "PENDING":
        return reason or "just submitted"
    return " ".join(filter(None, [queued.state.lower(), reason]))


def _ended(seen: Seen) -> str:
    attempt = seen.attempt
    if attempt is None or attempt.outcome is None:
        return "was ended without a word"
    cause = last_line(attempt.cause)
    if attempt.outcome == "stopped":
        return f"was stopped ({_stopped(attempt)})" if cause else "was stopped"
    return f"failed: {cause}" if cause else attempt.outcome


def _stopped(attempt: Attempt) -> str:
    """by a signal, or why it had to be ended."""
    return last_line(attempt.cause).removeprefix("stopped ")


def _by_files(seen: Seen, queue: Queue, now: float, *, leaving: bool) -> tuple[State, str]:
    attempt, job, said = seen.attempt, seen.main, seen.said()
    outcome = attempt.outcome if attempt else None
    end = "done" if said == "done" else outcome or said
    if end == "done":
        return "done", ""
    if end == "failed":
        return "failed", _failure(seen)
    if end == "stopped":
        return "stopped", _stopped(attempt) if attempt else ""
    beating = seen.beat is not None and now - seen.beat < _STILL_S
    if beating or leaving or (job is not None and local_jobs.alive(job)):
        return "running", "" if said else "starting"
    if job is None and said is None:
        return "unknown", "no state.json" if seen.trained else "never started"
    if job is not None and job.cluster == "slurm" and queue is None:
        return "unknown", "no sign of life" if said or attempt else "submitted"
    found = _failure(seen)
    if job is not None and job.cluster == "debug":
        return ("failed", found) if found else ("done", "")
    if attempt is None and said is None and job is not None:
        return ("failed", found) if found else ("stopped", _gone(job))
    signs = [seen.beat, number(seen.state.get("time")), attempt.started if attempt else None]
    last = time.localtime(max((sign for sign in signs if sign is not None), default=0.0))
    since = f"no sign of life since {time.strftime('%Y-%m-%d %H:%M:%S', last)}"
    return "lost", f"{since}; {found}" if found else since


def _failure(seen: Seen) -> str:
    found = first_cause(seen.folder, seen.main, seen.attempt)
    return found.in_short() if found else ""


def _succeeded(job: Job) -> bool:
    """By what submitit writes when the job's function returns."""
    pattern = Path(job.logs)
    try:
        with open(pattern.with_name(pattern.name.replace("*_log.out", "0_result.pkl")), "rb") as file:
            return b"success" in file.read(64)
    except OSError:
        return False
