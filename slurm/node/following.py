"""A run that follows another one: it begins when that one has reached its last step, or not at all."""

from __future__ import annotations

import time

from slurm.node.place import Place
from slurm.node.signals import Signals
from slurm.records import local_jobs
from slurm.records.run_folder import RunFolder

SEEN_S = 60.0  # for the last word of a run on another node to be seen here
_POLL_S = 0.5


def await_end(before: str, place: Place, folder: RunFolder, signals: Signals) -> str | None:
    """Why the run in `folder` must not be trained after the run `before`; None where it may.

    SLURM sees to the waiting, by a dependency; on this machine it is done here. A run that has begun has
    its weights: what becomes of the other one does not touch it.
    """
    if folder.state():
        return None
    other = RunFolder(before)
    while not place.on_slurm and _works_here(other):
        if signals.number is not None:
            return f"stopped by {signals.number.name} while it waited for {before}"
        time.sleep(_POLL_S)
    end = time.monotonic() + (SEEN_S if place.on_slurm else 0.0)
    while not other.is_done():
        if time.monotonic() >= end:
            return f"not begun, as {standing(other, before)}"
        time.sleep(_POLL_S)
    return None


def standing(run: RunFolder, name: str) -> str:
    """How a run that is not done stands, in words."""
    state = run.state()
    if not state:
        return f"{name} has not begun"
    at = f"at step {state.get('saved_step', 0)} of {state.get('last_step', '?')}"
    failures = run.failures() if state.get("state") == "failed" else []
    said = f": {failures[-1].message.strip().splitlines()[-1]}" if failures else ""
    return f"{name} is {state.get('state')}, {at}{said}"


def _works_here(run: RunFolder) -> bool:
    return any(local_jobs.alive(job) for job in run.jobs() if job.kind == "train" and job.cluster == "local")
