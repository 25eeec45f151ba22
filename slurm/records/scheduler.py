"""SLURM's own commands, asked as a user would: scontrol, squeue, scancel."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from slurm.errors import SlurmError

ANSWER_S = 120  # for a controller that is away to come back
ENDING_S = 120  # for SLURM to end a job that it was told to requeue
_AGAIN_S = 5  # between two tries
PATIENCE_S = 60  # a controller under load answers late, and commands wait for it
# The job is over or on its way there by somebody's will: bringing it back would be against that will.
ENDED = ("CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "BOOT_FAIL")


@dataclass(frozen=True)
class Queued:
    """A job as squeue shows it. time_left: D-HH:MM:SS as SLURM writes it; restarts: since submission."""

    job: str
    state: str
    nodes: str
    time_left: str
    reason: str


def available() -> bool:
    return shutil.which("scontrol") is not None


def job_fields(job: str) -> dict[str, str]:
    """`scontrol show job` as a mapping; empty where the controller has forgotten the job.

    Values with blanks in them, such as commands, are cut at the first blank.
    """
    answer = _ask("scontrol", "show", "job", "--oneliner", job, allow_failure=True)
    return dict(re.findall(r"(?:^|\s)([A-Za-z][\w/:]*)=(\S*)", answer.partition("\n")[0]))


def queued(jobs: Iterable[str]) -> dict[str, Queued]:
    """Those of the jobs that wait or run, by id."""
    wanted = sorted(set(jobs))
    if not wanted or not available():
        return {}
    form = "%i|%T|%N|%L|%r"
    found: dict[str, Queued] = {}
    # One unknown id makes squeue refuse a whole list, and ids are forgotten minutes after a job's end.
    for line in _ask("squeue", "--noheader", "--array", "--me", f"--format={form}").splitlines():
        job, state, nodes, left, reason = line.strip().split("|", 4)
        if job in wanted:
            found[job] = Queued(job, state, nodes, left, reason)
    return found


def seconds_left(job: str) -> float | None:
    """Until the job's time limit; None where it has none, or SLURM does not say."""
    try:
        end = job_fields(job).get("EndTime", "")
        return datetime.fromisoformat(end).timestamp() - time.time()
    except (SlurmError, ValueError):
        return None


def requeue(job: str) -> None:
    """Put a running job back into the queue, which ends its processes. Raises SlurmError."""
    _ask("scontrol", "requeue", job)


def put_back(job: str) -> None:
    """Put this process's own job back into the queue, unless it is over by somebody's will; await the end.

    job: as squeue shows it: the bare number of an array's element may stand for the whole array. Tries
    again while the controller does not answer. Raises SlurmError where it cannot be put back, or stays.
    """
    end = time.monotonic() + ANSWER_S
    while True:
        try:
            fields = job_fields(job)
            _refuse_ended(job, fields.get("JobState", ""), fields.get("Reason", ""))
            requeue(job)
            break
        except NotRequeued:
            raise
        except SlurmError as error:
            if "pending execution" in str(error):  # somebody was quicker
                break
            if not available() or time.monotonic() > end or "disabled" in str(error):
                raise SlurmError(f"could not requeue job {job} ({error})") from None
            time.sleep(_AGAIN_S)
    time.sleep(ENDING_S)
    raise SlurmError(f"SLURM has not ended job {job} within {ENDING_S} s of requeueing it")


class NotRequeued(SlurmError):
    """The job is over by somebody's will."""


def _refuse_ended(job: str, state: str, reason: str) -> None:
    if state == "COMPLETING" and reason != "TimeLimit":
        raise NotRequeued(f"SLURM is ending job {job} already, and requeues it if nobody cancelled it")
    if state in ENDED:
        raise NotRequeued(f"job {job} is {state}, and is not requeued")


def cancel(job: str) -> None:
    """End a job for good. Raises SlurmError."""
    # scancel gives the ranks time to save, after which the job's own tasks would put it back.
    _ask("scontrol", "update", f"JobId={job}", "Requeue=0", allow_failure=True)
    _ask("scancel", job)


def node_address(name: str) -> str:
    """What reaches the node: its name where that resolves, else the address that SLURM itself uses."""
    try:
        socket.getaddrinfo(name, None)
        return name
    except OSError:
        if not available():  # in a container, say
            return name
        answer = _ask("scontrol", "show", "node", "--oneliner", name, allow_failure=True)
        found = re.search(r"\bNodeAddr=(\S+)", answer)
        return found[1] if found else name


def _ask(*command: str, allow_failure: bool = False) -> str:
    shown = " ".join(command)
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    except FileNotFoundError:
        raise SlurmError(
            f"{command[0]} is not in PATH here: run this where SLURM's commands are installed"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"no answer to `{shown}` for {PATIENCE_S} s: is slurmctld well?") from None
    if answer.returncode and not allow_failure:
        said = answer.stderr.strip().splitlines()[-1:] or [f"status {answer.returncode}"]
        raise SlurmError(f"`{shown}` failed: {said[0]}")
    return answer.stdout
