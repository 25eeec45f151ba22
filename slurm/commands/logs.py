"""`python -m slurm logs`: what a run printed, the first cause of a failure above all else."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shard_tools.text import shown
from slurm.commands.status import ask_queue
from slurm.errors import SlurmError
from slurm.records.run_folder import Job, RunFolder
from slurm.records.runs import one_run, shown_path
from slurm.watch.first_cause import FirstCause, attempts_of, first_cause
from slurm.watch.logs import Follower, node_logs, tail, unfinished
from slurm.watch.rows import Row, status_of
from slurm.watch.seen import Seen, main_job
from slurm.watch.state import ON_ITS_WAY, State
from slurm.watch.text import cause_head, next_commands

_POLL_S = 0.5
_ASK_S = 10.0  # between two squeues
_RULE = 78

_EPILOG = """\
examples:
  python -m slurm logs runs/first               # why it failed, and the end of each node's log
  python -m slurm logs -f runs/first            # as it is written, through requeues, to the run's end
  python -m slurm logs runs/first --node 1 -n 200
  python -m slurm logs runs/first --job 12      # of an earlier job: status RUN lists them

Exit status: 0; with -f 0 when the run is done, 1 when it ended otherwise.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    logs = commands.add_parser(
        "logs",
        help="why a run failed, and what its nodes printed",
        description="The first cause of the failure of a run's last start, if it failed; then the end of "
        "what each node of the newest job printed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    logs.add_argument("folder", metavar="RUN", help="the run's folder")
    logs.add_argument("-f", "--follow", action="store_true", help="go on until the run ends, or Ctrl-C")
    logs.add_argument("-n", "--lines", type=int, default=40, metavar="N", help="of each node (default: 40)")
    logs.add_argument("--job", metavar="ID", help="default: the newest training")
    logs.add_argument("--node", type=int, metavar="N", help="the Nth of the job's alone, from 0")
    logs.set_defaults(run=_logs)


def _logs(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if rest:
        raise SlurmError(f"logs takes nothing after --, and was given {' '.join(rest)}")
    if arguments.lines < 0:
        raise SlurmError(f"--lines is {arguments.lines}: give 0 or more")
    folder = one_run(arguments.folder)
    job = _chosen(folder, arguments.job)
    look = _look(folder, job)
    if look.trouble:
        print(f"({look.trouble})\n")
    if look.cause is not None:
        print(_set_off(look.cause))
    files = _files(folder, job, arguments.node)
    follower = Follower()
    for path, node in files.items():
        lines, end = tail(path, arguments.lines)
        last = "" if arguments.follow else unfinished(path, end)
        head = "" if node is None else f"node {node}: "
        print("\n".join([f"==> {head}{shown_path(path)} <==", *lines, *([last] if last else []), ""]))
        follower.start_at(path, end)
    if not files:
        print(_nothing_yet(folder, job, look, arguments.node))
    return _follow(folder, job, arguments, follower, look) if arguments.follow else 0


@dataclass(frozen=True)
class _Look:
    """How the run stands. state, note: of the job that is shown."""

    row: Row
    state: State | None
    note: str | None
    queued: bool
    cause: FirstCause | None
    trouble: str | None

    @property
    def over(self) -> bool:
        """Without SLURM's word a failed run may be in the queue again."""
        if self.queued or self.state in (*ON_ITS_WAY, "unknown"):
            return False
        return self.state == "done" or self.trouble is None


def _look(folder: RunFolder, job: Job | None) -> _Look:
    seen = Seen.read(folder)
    queue, trouble = ask_queue([seen])
    row = status_of(seen, queue, time.time())
    state: State | None
    if job is None or (job.kind == "train" and seen.main in (job, None)):
        state, note = row.state, row.note
    else:
        [mine] = [each for each in row.jobs if each.job == job.job]
        state, note = mine.state, mine.note
    queued = bool(queue and job and job.job in queue)
    return _Look(row, state, note, queued, _cause(seen, job, state), trouble)


def _cause(seen: Seen, job: Job | None, state: State | None) -> FirstCause | None:
    """Where the job's newest start failed: also while it waits to be tried again, not once it runs."""
    attempts = attempts_of(job, seen.folder.attempts())
    newest = attempts[-1] if attempts else None
    if (newest is not None and newest.outcome == "failed") or state in ("failed", "lost"):
        return first_cause(seen.folder, job, newest)
    return None


def _chosen(folder: RunFolder, wanted: str | None) -> Job | None:
    """The job asked for; else the newest training, or a later job that has begun to print."""
    jobs = folder.jobs()
    if wanted is not None:
        for job in jobs:
            if job.job == wanted:
                return job
        known = ", ".join(job.job for job in jobs) or "none"
        raise SlurmError(f"--job {wanted}: {folder.path} has no such job; its jobs are {known}")
    main = main_job(jobs)
    if main is None:
        return None
    later = [job for job in jobs[jobs.index(main) :] if node_logs(job)]
    return later[-1] if later else main


def _files(folder: RunFolder, job: Job | None, node: int | None) -> dict[Path, int | None]:
    """The nodes' logs, with their numbers; of a run that was started by hand its own log."""
    if job is not None:
        return {path: number for number, path in node_logs(job, node)}
    own_log = folder.path / "log.txt"
    return {own_log: None} if own_log.is_file() and node in (None, 0) else {}


def _set_off(cause: FirstCause) -> str:
    head = cause_head(cause)
    rule = "=" * _RULE
    return shown("\n".join([rule, head[0].upper() + head[1:], "", cause.text.rstrip(), rule, ""]))


def _nothing_yet(folder: RunFolder, job: Job | None, look: _Look, node: int | None) -> str:
    if job is None:
        return f"{shown_path(folder.path)} has no job, and no log.txt: nothing was printed"
    why = f" ({look.note})" if look.note and look.cause is None else ""
    which = "" if node is None else f" of node {node}"
    return f"job {job.job} ({job.kind}) is {look.state or 'over'}{why}: no log{which} yet: {job.logs}"


def _follow(
    folder: RunFolder, job: Job | None, arguments: argparse.Namespace, follower: Follower, look: _Look
) -> int:
    """Show what is added until the job is over. Returns 0 when it is done, 1 when it ended otherwise."""
    reported, asked = look.cause, time.monotonic()
    files: dict[Path, int | None] = {}
    while True:
        files |= _files(folder, job, arguments.node)
        # Once it is over, so is the writing: the looks at the job come before the last reading.
        lines = follower.last_words(list(files)) if look.over else follower.new_lines(list(files))
        for path, line in lines:
            print(f"{files[path]} | {line}" if len(files) > 1 else line)
        sys.stdout.flush()
        if look.over:
            break
        time.sleep(_POLL_S)
        if time.monotonic() - asked < _ASK_S:
            continue
        asked = time.monotonic()
        if arguments.job is None and (newer := _newer(folder, job)) != job:
            job = newer
            print(f"-- job {job.job if job else ''} takes over")
        before, look = look, _look(folder, job)
        if look.state != before.state and not look.over:
            print(shown(f"-- {look.state}{f': {look.note}' if look.note else ''}"))
    if look.cause is not None and look.cause != reported:
        print("\n" + _set_off(look.cause))
    name = shown_path(folder.path)
    print(f"-- {name}: {look.state or 'over'}; {_summary(look.row)}next: {next_commands(look.row)[-1]}")
    return 0 if look.state == "done" else 1


def _newer(folder: RunFolder, job: Job | None) -> Job | None:
    """The training that took over from `job`, if one was submitted meanwhile."""
    main = main_job(folder.jobs())
    if job is None or (main is not None and main.kind == job.kind):
        return main
    return job


def _summary(row: Row) -> str:
    step = "" if row.step is None else f"step {row.step}{f' of {row.last_step}' if row.last_step else ''}; "
    return step + ("" if row.eer_best is None else f"best EER {row.eer_best:.2f} %; ")
