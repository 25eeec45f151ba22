"""Whose a run folder is: which process, of which machine and namespace, by whom started.

Host name and process number are no identity: containers share the one and give the other again.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from shard_tools.records import within
from shard_tools.run_records import attempt_name

_LONGEST_TIME = 2.0**37  # seconds since 1970 that a calendar can show


@dataclass(frozen=True)
class Owner:
    """Who holds a run folder.

    token: drawn at random, and in every beat; job: what torchrun's --rdzv-id says, the same in every
    attempt of a job; attempt: the scheduler's or launcher's name of this start of the job, None
    where nobody vouches that the one before has ended; pid: as its own namespace counts; process_start:
    the kernel's, so that a process number that came round again is not taken for the owner; machine:
    of one boot, and namespace: of process numbers, both "" where the kernel does not tell.
    """

    token: str
    job: str | None
    host: str
    pid: int
    process_start: str
    since: Annotated[float, within(0, _LONGEST_TIME)]  # seconds since 1970
    attempt: str | None = None
    machine: str = ""
    namespace: str = ""

    @classmethod
    def this(cls) -> Owner:
        pid = os.getpid()
        return cls(
            token=uuid.uuid4().hex,
            job=_job(),
            host=socket.gethostname(),
            pid=pid,
            process_start=_process_start(pid),
            since=time.time(),
            attempt=_attempt(),
            machine=_machine(),
            namespace=_namespace(),
        )

    def describe(self) -> str:
        job = f"job {self.job}, " if self.job else ""
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return f"{job}process {self.pid} on {self.host}, since {since}"


def lives(holder: Owner | None) -> bool | None:
    """Whether the holder's process runs; None where that cannot be seen from here.

    It is looked for only in the namespace of process numbers that it was in, on a machine that has
    not been started anew since.
    """
    if holder is None or not holder.process_start or not holder.machine or not holder.namespace:
        return None
    here = (socket.gethostname(), _machine(), _namespace())
    if (holder.host, holder.machine, holder.namespace) != here:
        return None
    return _process_start(holder.pid) == holder.process_start


def is_earlier_attempt(holder: Owner | None, owner: Owner) -> bool:
    """Whether a scheduler, which ends a job's processes before it starts it again, started this one anew."""
    if holder is None or holder.job is None or holder.attempt is None or owner.attempt is None:
        return False
    return holder.job == owner.job and holder.attempt != owner.attempt


def _job() -> str | None:
    """torchrun's --rdzv-id, unless it is the one that stands for none, or made up for this start alone."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    with contextlib.suppress(ValueError):
        uuid.UUID(name)
        return None
    return None if name == "none" else name


def _attempt() -> str | None:
    named = attempt_name()
    if named or "SLURM_JOB_ID" not in os.environ:
        return named
    return f"{os.environ['SLURM_JOB_ID']}.{os.environ.get('SLURM_RESTART_COUNT', '0')}"


def _machine() -> str:
    """Of this machine since it was started: the kernel draws it at random."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _namespace() -> str:
    """In which process numbers count; "" also where /proc shows those of another one."""
    try:
        return os.readlink("/proc/self/ns/pid") if os.readlink("/proc/self") == str(os.getpid()) else ""
    except OSError:
        return ""


def _process_start(pid: int) -> str:
    """When the process started, in the kernel's ticks; "" where there is none, or no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if stat[0] == "Z" else stat[19]
