"""A command as the single task of a job: it goes back into the queue when SLURM takes the node away."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from slurm.errors import SlurmError
from slurm.node.place import Place
from slurm.node.ranks import end_with_parent
from slurm.node.signals import STOP_SIGNALS, Signals
from slurm.records import scheduler

STARTS = 20  # so often is a command begun that is never done in time


def run_command(command: Sequence[str], place: Place) -> int:
    """Run it to its end; returns its exit status. Does not return where SLURM ends the job to requeue it."""
    signals = Signals()
    signals.listen()
    ending = functools.partial(end_with_parent, os.getpid())
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=ending)
    forwarded = False
    while True:
        try:
            status = process.wait(0.25)
            break
        except subprocess.TimeoutExpired:
            if signals.number is not None and not forwarded:
                forwarded = True
                process.terminate()
    if -status in STOP_SIGNALS:
        time.sleep(1)  # SLURM signals us and the command one after the other
    if status == 0 or signals.number is None or not place.on_slurm:
        return status
    if place.restart + 1 >= STARTS:
        print(f"slurm: error: not done after {STARTS} starts: ask for more --time", file=sys.stderr)
        return status
    try:
        print(f"slurm: {signals.number.name}: requeueing job {place.shown}", file=sys.stderr, flush=True)
        scheduler.put_back(place.shown)
    except SlurmError as error:
        print(f"slurm: error: {error}", file=sys.stderr)
    return status
