"""What a training and its launcher know each other by: files in the run's folder, and an exit status.

    RUN/lock             who holds the folder; renewed every BEAT_S by the training
    RUN/state.json       how far the training has come
    RUN/failures/*.json  why a rank, or a node's launcher, failed
    exit status STOPPED  stopped in order, to be started again

Names and types of these stand here alone, for `train` and `slurm`, which do not import each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from shard_tools.records import within

STOPPED = 75  # EX_TEMPFAIL of sysexits.h

LOCK = "lock"
STATE = "state.json"
FAILURES = "failures"
BEAT_S = 10.0

# The launcher's name for this start of a training, and the cluster's for this node.
ATTEMPT_VARIABLE = "VOXSHARD_ATTEMPT"
NODE_VARIABLE = "VOXSHARD_NODE"

# Seconds since 1970, up to the year 3000: what a clock can show.
Time = Annotated[float, within(0, 32_503_680_000)]
Whole = Annotated[int, within(0, 2**53)]

# running, stopped (by a signal: start again to go on), done, or failed. A run that was killed still says
# running; its lock tells the difference.
RunState = Literal["running", "stopped", "done", "failed"]

# mistake: the user can mend it, and starting again cannot; crash: anything else of this rank's own,
# which may be over at the next start; peer: another rank was lost, which alone can say why.
FailureKind = Literal["mistake", "crash", "peer"]


@dataclass(frozen=True)
class State:
    """state.json. saved_step: of the newest checkpoint; last_step: where the run ends; world: processes."""

    state: RunState | None = None
    saved_step: Whole | None = None
    last_step: Whole | None = None
    world: Whole | None = None
    attempt: str | None = None
    host: str | None = None
    pid: int | None = None
    time: Time | None = None


@dataclass(frozen=True)
class Failure:
    """What a rank (or, with rank None, a node's launcher) left behind. message: what it printed."""

    time: Time
    kind: FailureKind
    rank: int | None
    host: str
    attempt: str | None
    message: str


def attempt_name() -> str | None:
    """The launcher's name for this start; None where nobody gave one."""
    return os.environ.get(ATTEMPT_VARIABLE)


def node_name() -> str:
    """The cluster's name for this node, or the host's own."""
    return os.environ.get(NODE_VARIABLE) or socket.gethostname()


def write_failure(run: str | os.PathLike[str], failure: Failure) -> None:
    """Leave it in the run's folder, in a file of its own that is whole or absent.

    Does nothing where the folder cannot be written, which may be the very failure.
    """
    folder = os.path.join(run, FAILURES)
    who = failure.host if failure.rank is None else f"rank{failure.rank}"
    name = os.path.join(folder, f"{failure.attempt or 'hand'}-{failure.time:.3f}-{who}.json")
    with contextlib.suppress(OSError):
        os.makedirs(folder, exist_ok=True)
        with open(name + ".new", "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(failure)) + "\n")
        os.replace(name + ".new", name)
