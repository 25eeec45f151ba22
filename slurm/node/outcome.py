"""What becomes of a job when the ranks of one of its nodes have ended: done, put back, or given up."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from shard_tools.run_records import STOPPED, Failure
from slurm.errors import SlurmError
from slurm.node.place import Place
from slurm.records import scheduler
from slurm.records.run_folder import Outcome, RunFolder

DECISION_S = 30.0  # for the nodes before this one to decide what becomes of the job
# For the node that decides to have its will with SLURM, which then ends this task: one that left earlier
# would end the job.
STAY_S = 3 * scheduler.PATIENCE_S + scheduler.ANSWER_S + scheduler.ENDING_S
RECORD_S = 60.0  # for word of another node to be seen here
ACCOUNT_S = 15.0  # for another node to write down why it failed
GRACE_S = 600.0  # for SLURM to end a job that it preempts
_POLL_S = 0.25


def after_leaving(place: Place, folder: RunFolder, *, taken: bool) -> int:
    """All ranks of this node left content: the training is done, or was stopped."""

    # Rank 0 may be on another node, and its last word take its time on a shared file system.
    _until(lambda: _last_word(place, folder) is not None, RECORD_S)
    if _last_word(place, folder) == "done":
        return _done(place, folder)
    if place.leads:
        return start_again(place, folder, "stopped", "stopped by a signal", taken=taken)
    time.sleep(STAY_S)
    return STOPPED


def after_failure(place: Place, folder: RunFolder, own: Failure | None) -> int:
    """own: this node's, which the folder may be unable to hold."""
    if _last_word(place, folder) == "done":
        say(place, "the training is done; what failed after that is in the log")
        return _done(place, folder)
    if not place.leads:
        # Ending this task would end the job before the first node has decided what becomes of it; and
        # if it is the first node that was lost, the next one has to decide.
        decided = _until(lambda: _decided(place, folder), DECISION_S * place.node)
        if decided:
            time.sleep(STAY_S)
            return 1
    # Another node may still be writing down what it knows: its loss is noticed here first.
    _until(lambda: own is not None or bool(first_causes(place, folder)), ACCOUNT_S)
    failures = first_causes(place, folder) or ([own] if own else folder.failures(place.attempt))
    why = described(failures[0]) if failures else "lost another node, which left no word"
    if all(failure.kind == "peer" for failure in failures) and folder.saved_step() == 0:
        why += "; if it is so at every start, name the network that joins the nodes with --interface"
    if any(failure.kind == "mistake" for failure in failures) or not place.on_slurm:
        return give_up(place, folder, why)
    return start_again(place, folder, "failed", why)


def _last_word(place: Place, folder: RunFolder) -> str | None:
    """Rank 0's: done or stopped, said by all ranks together after their last step; None before."""
    state = folder.state()
    word = str(state.get("state"))
    return word if state.get("attempt") == place.attempt and word in ("done", "stopped") else None


def _done(place: Place, folder: RunFolder) -> int:
    if place.leads:
        note_end(place, folder, "done")
    return 0


def _decided(place: Place, folder: RunFolder) -> bool:
    return any(each.attempt == place.attempt and each.ended is not None for each in folder.attempts())


def first_causes(place: Place, folder: RunFolder) -> list[Failure]:
    return [failure for failure in folder.failures(place.attempt) if failure.kind != "peer"]


def described(failure: Failure) -> str:
    """The failure with its rank and node."""
    rank = "" if failure.rank is None else f"rank {failure.rank} on "
    text = failure.message.strip()
    return text if failure.host in text else f"{rank}{failure.host}: {text}"


def start_again(place: Place, folder: RunFolder, outcome: Outcome, why: str, *, taken: bool = False) -> int:
    """Put the job back into the queue; SLURM then ends this task. taken: by SIGTERM, as in preemption."""
    note_end(place, folder, outcome, why)
    step = folder.saved_step()
    again = f"to go on from step {step}: python -m slurm resume {folder.path}"
    if not place.on_slurm:
        say(place, f"{why}; {again}")
        return STOPPED
    try:
        say(place, f"{why}; requeueing job {place.shown}, which goes on from step {step}")
        scheduler.put_back(place.shown)
    except SlurmError as error:
        if not taken or isinstance(error, scheduler.NotRequeued):
            say(place, f"{error}; {again}")
        else:
            say(place, f"{error}: where it was preempted or requeued it comes back by itself")
            time.sleep(GRACE_S)  # SLURM requeues a preempted job by itself, if its tasks are there at the end
    return STOPPED


def give_up(place: Place, folder: RunFolder, why: str) -> int:
    say(place, f"failed: {why}")
    note_end(place, folder, "failed", why)
    return 1


def note_end(place: Place, folder: RunFolder, outcome: Outcome, why: str | None = None) -> None:
    """A record that cannot be written must not change what becomes of the job."""
    try:
        folder.end_attempt(place.attempt, outcome, why)
    except SlurmError as error:
        say(place, str(error))


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(_POLL_S)
    return True


def say(place: Place, text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} node {place.name}: {text}", file=sys.stderr, flush=True)
