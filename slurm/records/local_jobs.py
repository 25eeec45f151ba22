"""Jobs on this machine (--cluster local): a process of submitit's, whose number is the job's id."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from slurm.records.run_folder import Job

_PROGRAM = b"submitit.local._local"


def alive(job: Job) -> bool:
    """Whether the job's process runs on this machine: another one may have had its number since."""
    command = _command(job.job)
    return _PROGRAM in command and os.fsencode(Path(job.logs).parent) in command


def stop(job: Job) -> None:
    """Tell it to leave, as SLURM would; it passes this on to the ranks, which save before they leave."""
    for pid in [job.job, *_children(job.job)]:  # --setup puts a shell above it
        if _PROGRAM in _command(pid).split(b"\0"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGTERM)


def _command(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except (OSError, ValueError):
        return b""


def _children(pid: str) -> list[str]:
    try:
        return Path("/proc", pid, "task", pid, "children").read_text().split()
    except OSError:
        return []
