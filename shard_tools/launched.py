"""Which process of a job this is, by the environment that torchrun gives its ranks."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from dataclasses import dataclass

from shard_tools.errors import UserError

_COMPANIONS = ("WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
_REMEDY = "start the job with torchrun, which sets it, or unset RANK to go on with one process"


@dataclass(frozen=True)
class Launched:
    """rank of world processes, local_rank of the on_node ones of this node."""

    rank: int
    world: int
    local_rank: int
    on_node: int


def launched() -> Launched | None:
    """None for a process alone. Raises UserError for an environment that describes no job."""
    if "RANK" not in os.environ:
        return None
    absent = [name for name in _COMPANIONS if not os.environ.get(name)]
    if absent:
        raise UserError(
            f"RANK is {os.environ['RANK']} in the environment, and {', '.join(absent)} "
            f"{'is' if len(absent) == 1 else 'are'} not there: {_REMEDY}"
        )
    world = _number("WORLD_SIZE", 1, None)
    on_node = _number("LOCAL_WORLD_SIZE", 1, world)
    _number("MASTER_PORT", 1, 65535)
    return Launched(_number("RANK", 0, world - 1), world, _number("LOCAL_RANK", 0, on_node - 1), on_node)


def end_with_parent() -> None:
    """Let the kernel end this process when its parent dies, so that no rank goes on as an orphan.

    torchrun puts ranks into sessions of their own, where a SIGKILL of torchrun leaves them running,
    into the same folder as the run that is started in its place.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    set_death_signal = 1  # PR_SET_PDEATHSIG of linux/prctl.h
    ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the call
        os.kill(os.getpid(), signal.SIGKILL)


def _number(name: str, low: int, high: int | None) -> int:
    text = os.environ[name]
    value = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    if value is None or value < low or (high is not None and value > high):
        bounds = f"from {low} to {high}" if high is not None else f"of at least {low}"
        raise UserError(
            f"{name} is {text!r} in the environment; it must be a whole number {bounds}: {_REMEDY}"
        )
    return value
