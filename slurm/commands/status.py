"""`python -m slurm status`: how runs stand."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from shard_tools.text import counted, shown
from slurm.errors import SlurmError
from slurm.records import scheduler
from slurm.records.runs import DEFAULT, find_runs, shown_path
from slurm.watch.evaluations import newest_evaluation
from slurm.watch.first_cause import first_cause
from slurm.watch.rows import Row, status_of
from slurm.watch.seen import Seen
from slurm.watch.state import Queue
from slurm.watch.text import block, clock, table

_EPILOG = """\
states:
  pending   in the queue for the first time     stopped  or cancelled; resume goes on
  running                                       failed   see logs for the first cause
  waiting   requeued: goes on by itself         lost     said running; neither job nor sign of life is there
  done                                          unknown  SLURM cannot be asked, and the files do not tell

examples:
  python -m slurm status                        # all runs below runs/
  python -m slurm status runs/first             # all about one: jobs, starts, cause of the last failure
  python -m slurm status runs/sweep --watch 30
  python -m slurm status --json | jq -r '.[] | select(.state == "failed") | .run'
"""


_LONGEST = 1000  # characters of a line: a record may hold anything


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    status = commands.add_parser(
        "status",
        help="how runs stand: state, step, speed, error rates, time to the end",
        description="How runs stand, by their folders and squeue: a table of several, all about one. "
        "WAIT is the share of the time spent waiting for data; LEFT is the job's time to its limit, "
        "TO END the training's to its last step.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    status.add_argument(
        "runs", nargs="*", metavar="RUN", help=f"run folders, or folders of runs (default: {DEFAULT})"
    )
    form = status.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="a list of objects, with all there is")
    form.add_argument("--watch", type=float, metavar="SECONDS", help="again every so often, until Ctrl-C")
    status.set_defaults(run=_status)


def _status(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if rest:
        raise SlurmError(f"status takes nothing after --, and was given {' '.join(rest)}")
    if arguments.watch is None:
        print(_text(arguments))
        return 0
    if not arguments.watch >= 1:
        raise SlurmError(f"--watch is {arguments.watch:g}: give at least 1 second")
    try:
        while True:
            text = _text(arguments)
            clear = "\x1b[H\x1b[2J" if sys.stdout.isatty() else ""
            print(f"{clear}{clock(time.time())}\n{text}\n", flush=True)
            time.sleep(arguments.watch)
    except KeyboardInterrupt:
        return 0


def _text(arguments: argparse.Namespace) -> str:
    seen = [Seen.read(folder) for folder in find_runs(arguments.runs)]
    queue, trouble = ask_queue(seen)
    now = time.time()
    rows = [status_of(each, queue, now) for each in seen]
    if arguments.json:
        if trouble:
            print(f"slurm: {trouble}", file=sys.stderr)
        return json.dumps([_fields(row) for row in rows], indent=2, allow_nan=False)
    if len(rows) == 1:
        cause = None
        if rows[0].state in ("failed", "lost", "waiting"):
            cause = first_cause(seen[0].folder, seen[0].main, seen[0].attempt)
        text = block(rows[0], seen[0].attempts, cause, now, newest_evaluation(seen[0].folder))
    else:
        text = table(rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None)
    damaged = [line for each in seen for line in _damaged(each)]
    whole = shown("\n\n".join(filter(None, [text, "\n".join(damaged), trouble])))
    return "\n".join(line[:_LONGEST] for line in whole.split("\n"))


def _damaged(seen: Seen) -> list[str]:
    """A line for a run with records that cannot be read, which were passed over."""
    found = seen.folder.damaged
    if not found:
        return []
    first = next(iter(found.values())).rstrip("; ")
    more = f", and {counted(len(found) - 1, 'file')} more" if len(found) > 1 else ""
    return [f"{shown_path(seen.folder.path)}: passed over what cannot be read of {first}{more}"]


def ask_queue(seen: Sequence[Seen]) -> tuple[Queue, str | None]:
    """Those of the runs' jobs that wait or run, by one squeue; None, and what to say, where there is none."""
    jobs = [job.job for each in seen for job in each.jobs if job.cluster == "slurm"]
    if not jobs:
        return {}, None
    if not scheduler.available():
        return None, "SLURM's commands are not in PATH here: states are as the runs' files tell"
    try:
        queue = scheduler.queued(jobs)
    except SlurmError as error:
        return None, f"SLURM does not answer ({error}): states are as the runs' files tell"
    others = "squeue was asked for your own jobs: other users' runs are as their files tell"
    return queue, None if all(each.own for each in seen) else others


def _fields(row: Row) -> dict[str, object]:
    return {**asdict(row), "share": row.share}
