"""What runs on each node of a training job, once a node: torchrun, and what becomes of the job when it ends.

    srun --ntasks-per-node=1 --kill-on-bad-exit=1 python -m slurm node RUN --ranks-per-node 8 \\
        -- --config configs/X.yaml

The tasks of a job's nodes share the run's folder and nothing else. A signal makes the ranks save
and leave; then the first node's task puts the job back into the queue, to go on from there. A
failure that starting again can mend does the same, as long as the run gets on; every
other one ends the job, with its cause in the run folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from enum import Enum

from shard_tools.run_records import ATTEMPT_VARIABLE, NODE_VARIABLE, Failure
from slurm.node import diagnosis, rendezvous
from slurm.node.following import await_end
from slurm.node.network import interface_towards, interfaces
from slurm.node.outcome import after_failure, after_leaving, first_causes, give_up, say, start_again
from slurm.node.place import Place
from slurm.node.ranks import Ranks
from slurm.node.signals import Signals
from slurm.programs import SAFE
from slurm.records import scheduler
from slurm.records.run_folder import Attempt, RunFolder

_POLL_S = 0.25
_LOOK_S = 2.0  # between two looks into the run folder for failures of other nodes
_RESEND_S = 2.0  # between two signals to the ranks
LEAVING_S = 20.0  # from another node's failure to the end of our ranks
ENDING_S = 45.0  # from a failure here; torchrun gives the other ranks 30 s
MARGIN_S = 15.0  # before the time limit


@dataclass(frozen=True)
class Training:
    """A training job.

    folder: the run's; arguments: of `python -m train`; signal_delay_s: how long before the time
    limit SLURM sends its signal; tries: attempts of a job in a row without a new checkpoint; follows: the
    folder of a run that must have reached its end before this one begins; numa_binding: torchrun's.
    """

    folder: str
    arguments: tuple[str, ...]
    ranks: int
    interface: str | None = None
    signal_delay_s: int = 120
    join_timeout_s: int = 300
    tries: int = 4
    python: str = sys.executable
    follows: str | None = None
    numa_binding: str | None = None


def run_node(training: Training, place: Place) -> int:
    """Run this node's part of the job to its end.

    Returns 0 when the training is done, STOPPED when it is to be started again and nobody here
    could see to that, 1 after a failure. Does not return where SLURM ends the job to requeue it.
    """
    signals = Signals()
    signals.listen()
    folder = RunFolder(training.folder)
    if place.leads:
        waited = await_end(training.follows, place, folder, signals) if training.follows else None
        refused = _begin(training, place, folder) or waited
        if refused:
            return give_up(place, folder, refused)
    lacking = _lacking_interface(training.interface) or _lacking_numactl(training.numa_binding)
    if lacking:
        failure = Failure(time.time(), "mistake", None, place.name, place.attempt, lacking)
        folder.add_failure(failure)
        return after_failure(place, folder, failure)
    address = scheduler.node_address(place.nodes[0]) if len(place.nodes) > 1 else "localhost"
    endpoint = f"{address}:{rendezvous.port_of(place.job, place.restart)}"
    ranks = Ranks(_command(training, place, endpoint), _environment(training, place))
    end = _wait(ranks, training, place, folder, signals)
    if end is End.LEFT:
        return after_leaving(place, folder, taken=signals.number == signal.SIGTERM)
    if end is End.LIMIT:
        return start_again(place, folder, "stopped", "the ranks had not left before the time limit")
    return after_failure(place, folder, _note_failure(ranks, end, training, place, folder, endpoint))


def _lacking_interface(name: str | None) -> str | None:
    known = interfaces()
    if name is None or name in known:
        return None
    return f"there is no network interface {name} here: give --interface one of {', '.join(known)}"


def _lacking_numactl(binding: str | None) -> str | None:
    """torch would go on without it, bound to nothing, and without a word."""
    if binding is None or shutil.which("numactl"):
        return None
    return f"--numa-binding {binding} needs the program numactl, not found here: install or drop it"


def _command(training: Training, place: Place, endpoint: str) -> list[str]:
    address, _, port = endpoint.rpartition(":")
    return rendezvous.torchrun(
        training.python,
        nodes=len(place.nodes),
        node=place.node,
        ranks=training.ranks,
        job=place.job,
        address=address,
        port=int(port),
        own_address=scheduler.node_address(place.name) if len(place.nodes) > 1 else "localhost",
        join_timeout_s=training.join_timeout_s,
        numa_binding=training.numa_binding,
        module=["train", *training.arguments],
    )


def _environment(training: Training, place: Place) -> dict[str, str]:
    return {
        **_network(training.interface, place),
        ATTEMPT_VARIABLE: place.attempt,
        NODE_VARIABLE: place.name,
        "PYTHONUNBUFFERED": "1",
        **SAFE,
    }


def _network(interface: str | None, place: Place) -> dict[str, str]:
    """gloo, which also serves runs on GPUs, would take the address that this node's own name has here.

    NCCL, which needs the network for its ranks to find each other, would take the first interface there is.
    """
    if interface is not None or len(place.nodes) == 1:
        return rendezvous.network(interface)
    found = interface_towards(scheduler.node_address(place.nodes[1 if place.leads else 0]))
    return {name: value for name, value in rendezvous.network(found).items() if name not in os.environ}


def _begin(training: Training, place: Place, folder: RunFolder) -> str | None:
    """Note the attempt; why it must not be made, where that is so."""
    folder.make()
    saved = folder.saved_step()
    idle = 0
    for earlier in reversed([each for each in folder.attempts() if each.job == place.shown]):
        if earlier.saved_before != saved:
            break
        idle += 1
    folder.begin_attempt(Attempt(place.attempt, place.shown, place.nodes, round(time.time(), 3), saved))
    if idle < training.tries:
        return None
    last = [failure for failure in folder.failures() if failure.kind != "peer"][-1:]
    said = f"; the last failure: {last[0].message.strip().splitlines()[-1]}" if last else ""
    tried = "1 attempt" if idle == 1 else f"{idle} attempts"
    return (
        f"{tried} in a row made no progress beyond step {saved}: not trying again{said}. "
        f"Mend the cause, then: python -m slurm resume {folder.path}"
    )


class End(Enum):
    """How the ranks of this node came to their end."""

    LEFT = "of themselves, content"
    FAILED = "of themselves, with a failure"
    PEER = "at our hands, as another node had failed"
    LIMIT = "at our hands, as the time limit was near"


def _wait(ranks: Ranks, training: Training, place: Place, folder: RunFolder, signals: Signals) -> End:
    """Wait for the end of torchrun; tell the ranks to stop, or end them, when the job must leave."""
    asked = looked = 0.0
    failed_at: dict[bool, float] = {}  # when a failure was first seen: of this node, of another one
    deadline = float("inf")
    while (status := ranks.poll()) is None:
        time.sleep(_POLL_S)
        now = time.monotonic()
        if signals.number is not None and now - asked > _RESEND_S:
            ranks.ask_to_stop()
            if not asked:
                say(place, f"{signals.number.name}: the ranks save after their step, and leave")
                deadline = now + _patience(training, place, signals)
            asked = now
        if now > deadline:
            say(place, "the time limit is near, and the ranks have not left: ending them")
            ranks.kill()
            return End.LIMIT
        if now - looked > _LOOK_S:
            looked = now
            for failure in first_causes(place, folder):
                failed_at.setdefault(failure.host == place.name, now)
        for own, limit, end in ((True, ENDING_S, End.FAILED), (False, LEAVING_S, End.PEER)):
            if own in failed_at and now - failed_at[own] > limit:
                whose = "this node" if own else "another node"
                say(place, f"{whose} failed {limit:.0f} s ago, and ranks here still wait: ending them")
                ranks.kill()
                return end
    return End.FAILED if status else End.LEFT


def _patience(training: Training, place: Place, signals: Signals) -> float:
    """Seconds that the ranks have to leave; SLURM's signal may come much later than it was asked for."""
    if not signals.limited:
        return float("inf")  # SLURM knows when it ends a job that it preempts or requeues, and brings it back
    left = scheduler.seconds_left(place.shown) if place.on_slurm else None
    known = training.signal_delay_s if left is None else left
    return max(0.0, min(known, training.signal_delay_s) - MARGIN_S)


def _note_failure(
    ranks: Ranks, end: End, training: Training, place: Place, folder: RunFolder, endpoint: str
) -> Failure | None:
    """Leave this node's account in the run folder, unless a rank of it has said what happened."""
    said = [failure for failure in folder.failures(place.attempt) if failure.host == place.name]
    if end is End.PEER or any(failure.kind != "peer" for failure in said):
        return None
    found = diagnosis.killed_rank(ranks.output(), node=place.name)
    if found is None and said:
        return None  # its ranks have lost another node's, no more
    if found is None:
        found = diagnosis.from_output(
            ranks.output(),
            ranks.poll() or 0,
            node=place.name,
            endpoint=endpoint,
            python=training.python,
        )
    failure = Failure(time.time(), found.kind, found.rank, place.name, place.attempt, found.text)
    folder.add_failure(failure)
    return failure
