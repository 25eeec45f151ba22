"""What submitit pickles, and calls in every task of a job."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import submitit

from slurm.errors import SlurmError
from slurm.node.command import run_command
from slurm.node.place import Place
from slurm.node.training import Training, run_node


@dataclass(frozen=True)
class TrainingJob:
    """One task a node: the node's part of a training job. Ends the task with the exit status of `run_node`.

    submitit's own handling of signals, which asks rank 0 alone and requeues before anything is
    saved, is in force only until the call begins; `run_node` replaces it.
    """

    training: Training

    def __call__(self) -> None:
        _leave(lambda place: run_node(self.training, place))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """For a signal that comes before the call: nothing was done, so that all is to be done again."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class CommandJob:
    """One task: a command that goes on where it was, or begins anew, when SLURM requeues the job."""

    command: tuple[str, ...]

    def __call__(self) -> None:
        _leave(lambda place: run_command(self.command, place))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """As above."""
        return submitit.helpers.DelayedSubmission(self)


def _leave(task: Callable[[Place], int]) -> None:
    """Run the task and end with its status; an exception's traceback would bury what was said."""
    try:
        status = task(Place.of_this_process())
    except SlurmError as error:
        print(f"slurm: error: {error}", file=sys.stderr)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        raise SystemExit(status if status > 0 else 128 - status)
