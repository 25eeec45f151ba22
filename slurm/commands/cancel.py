"""`python -m slurm cancel`: end a run's jobs."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from slurm.errors import SlurmError
from slurm.records import local_jobs, scheduler
from slurm.records.run_folder import Job, RunFolder
from slurm.records.runs import one_run, shown_path
from slurm.records.scheduler import Queued
from slurm.watch.state import IN_PROGRESS

_EPILOG = """\
examples:
  python -m slurm cancel runs/first
  python -m slurm cancel runs/sweep/*
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    cancel = commands.add_parser(
        "cancel",
        help="end a run's jobs, and those that wait for them",
        description="Cancel every job of the runs that waits or runs, without asking. Ranks are told to "
        "stop, and save a checkpoint if that takes less than SLURM's KillWait (scontrol show config; 30 s if "
        "nobody changed it); resume goes on from there.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cancel.add_argument("runs", nargs="+", metavar="RUN", help="the runs' folders")
    cancel.set_defaults(run=_cancel)


def _cancel(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if rest:
        raise SlurmError(f"cancel takes nothing after --, and was given {' '.join(rest)}")
    folders = [one_run(run) for run in arguments.runs]  # all, before any job is ended
    jobs = {folder.path: folder.jobs() for folder in folders}
    on_slurm = [job.job for own in jobs.values() for job in own if job.cluster == "slurm"]
    if on_slurm and not scheduler.available():
        raise SlurmError("scancel is not in PATH here: run this where SLURM's commands are installed")
    queue = scheduler.queued(on_slurm)
    for folder in folders:
        _cancel_run(folder, jobs[folder.path], queue)
    return 0


def _cancel_run(folder: RunFolder, jobs: Sequence[Job], queue: dict[str, Queued]) -> None:
    name = shown_path(folder.path)
    ended = []
    # Those that wait for another one first, as its end would set them off.
    for job in reversed(jobs):
        if job.cluster == "slurm" and job.job in queue:
            scheduler.cancel(job.job)
            state = queue[job.job].state
            ended.append((job, state in IN_PROGRESS))
            print(f"{name}: cancelled job {job.job} ({job.kind}, {state})")
        elif job.cluster == "local" and local_jobs.alive(job):
            local_jobs.stop(job)
            ended.append((job, True))
            print(f"{name}: told job {job.job} ({job.kind}, on this machine) to leave")
    any_on_slurm = any(job.cluster == "slurm" for job, _ in ended)
    if not ended:
        print(f"{name}: nothing to cancel: none of its {len(jobs)} jobs waits or runs")
    elif any(job.kind == "train" and runs for job, runs in ended):
        patience = " if SLURM's KillWait leaves them the time" if any_on_slurm else ""
        print(f"{name}: its ranks save after their step{patience}")
        print(f"to go on from there: python -m slurm resume {shlex.quote(name)}")
