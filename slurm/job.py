"""What submitit pickles, and calls in every task of a job."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import submitit

from slurm.command import run_command
from slurm.node import Training, run_node
from slurm.place import Place


@dataclass(frozen=True)
class TrainingJob:
    """One task a node: the node's part of a training job. Ends the task with the exit status of `run_node`.

    submitit's own handling of signals, which asks rank 0 alone and requeues before anything is
    saved, is in force only until the call begins; `run_node` replaces it.
    """

    training: Training

    def __call__(self) -> None:
        _leave(run_node(self.training, Place.of_this_process()))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """For a signal that comes before the call: nothing was done, so that all is to be done again."""
        return submitit.helpers.DelayedSubmission(self)


@dataclass(frozen=True)
class CommandJob:
    """One task: a command that goes on where it was, or begins anew, when SLURM requeues the job."""

    command: tuple[str, ...]

    def __call__(self) -> None:
        _leave(run_command(self.command, Place.of_this_process()))

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """As above."""
        return submitit.helpers.DelayedSubmission(self)


def _leave(status: int) -> None:
    """End the task. Not by an exception, whose traceback would bury what was said before."""
    sys.stdout.flush()
    sys.stderr.flush()
    if status:
        raise SystemExit(status if status > 0 else 128 - status)
