"""How a run stands: its folder and what squeue says, in one row."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slurm.records.run_folder import Job
from slurm.watch.seen import Seen, number
from slurm.watch.state import IN_PROGRESS, Queue, State, job_state, run_state

_RECENT = 50  # lines of the training that tell its pace
_PAUSE = 20.0  # times the usual: no step, but the time between two starts


@dataclass(frozen=True)
class JobRow:
    """note: why it waits, or how it failed; state: None for what a later job of its kind took over."""

    job: str
    kind: str
    state: State | None
    note: str | None
    nodes: int
    ranks_per_node: int
    submitted: float
    after: str | None
    logs: str


@dataclass(frozen=True)
class Row:
    """A run; None for what is not known, or does not apply.

    note: why it waits, failed or was lost, in one line; job_state, time_left: squeue's words; hosts: of
    the newest attempt; step: the last one that metrics.jsonl tells of; data_wait: share of the time;
    seconds_to_end: of training alone; eer_*: percent; restarts: of the current job; updated: of the
    last line of metrics, seconds since 1970.
    """

    run: str
    state: State
    note: str | None
    job: str | None
    job_state: str | None
    time_left: str | None
    nodes: int | None
    ranks_per_node: int | None
    world: int | None
    hosts: tuple[str, ...]
    restarts: int | None
    step: int | None
    last_step: int | None
    saved_step: int | None
    loss: float | None
    accuracy: float | None
    utterances_per_second: float | None
    data_wait: float | None
    seconds_per_step: float | None
    seconds_to_end: float | None
    eer_best: float | None
    eer_best_step: int | None
    eer_last: float | None
    eer_last_step: int | None
    updated: float | None
    jobs: tuple[JobRow, ...]

    @property
    def share(self) -> float | None:
        """Of the steps, those done."""
        if self.step is None or not self.last_step:
            return None
        return min(1.0, self.step / self.last_step)


def status_of(seen: Seen, queue: Queue, now: float) -> Row:
    """queue: the jobs that wait or run, by id, None where SLURM cannot be asked; now: seconds since 1970."""
    if not seen.own:
        queue = None  # it has one's own jobs only
    state, note = run_state(seen, queue, now)
    job, attempt = seen.main, seen.attempt
    queued = queue.get(job.job) if queue and job else None
    last = seen.trained[-1] if seen.trained else {}
    saved, end = _whole(seen.state.get("saved_step")), _whole(seen.state.get("last_step"))
    step = _whole(last.get("step"), saved)
    pace = seconds_per_step(seen.trained)
    rates = [(eer, line) for line in seen.validated if (eer := number(line.get("eer"))) is not None]
    best_eer, best_line = min(rates, key=lambda rate: rate[0], default=(None, {}))
    last_eer, last_line = rates[-1] if rates else (None, {})
    return Row(
        run=str(seen.folder.path),
        state=state,
        note=note or None,
        job=job.job if job else attempt.job if attempt else None,
        job_state=queued.state if queued else None,
        time_left=queued.time_left if queued and queued.state in IN_PROGRESS else None,
        nodes=job.nodes if job else None,
        ranks_per_node=job.ranks_per_node if job else None,
        world=_whole(seen.state.get("world")),
        hosts=attempt.nodes if attempt else (),
        restarts=len(seen.attempts) - 1 if seen.attempts else None,
        step=step,
        last_step=end,
        saved_step=saved,
        loss=number(last.get("loss")),
        accuracy=number(last.get("accuracy")),
        utterances_per_second=number(last.get("utterances_per_second")),
        data_wait=number(last.get("data_wait")),
        seconds_per_step=pace,
        seconds_to_end=_to_end(state, pace, step, end),
        eer_best=best_eer,
        eer_best_step=_whole(best_line.get("step")),
        eer_last=last_eer,
        eer_last_step=_whole(last_line.get("step")),
        updated=number(last.get("time")),
        jobs=tuple(_job_row(each, seen, queue, (state, note)) for each in seen.jobs),
    )


def seconds_per_step(lines: Sequence[dict[str, Any]]) -> float | None:
    """Of the last lines of a training, validations among them, but not the time between two starts."""
    marks = [
        (step, at)
        for line in lines[-_RECENT:]
        if (step := number(line.get("step"))) is not None and (at := number(line.get("time"))) is not None
    ]
    pairs = [
        (later[0] - earlier[0], later[1] - earlier[1])
        for earlier, later in itertools.pairwise(marks)
        if later[0] > earlier[0] and later[1] >= earlier[1]
    ]
    if not pairs:
        return None
    usual = statistics.median(seconds / steps for steps, seconds in pairs)
    kept = [pair for pair in pairs if pair[1] <= _PAUSE * usual * pair[0]]
    return sum(seconds for _, seconds in kept) / sum(steps for steps, _ in kept)


def _to_end(state: State, pace: float | None, step: int | None, end: int | None) -> float | None:
    if state != "running" or pace is None or step is None or end is None:
        return None
    return max(0.0, (end - step) * pace)


def _job_row(job: Job, seen: Seen, queue: Queue, of_main: tuple[State, str]) -> JobRow:
    state: State | None
    if job == seen.main:
        state, note = of_main
    elif job.kind == "train" and not (queue and job.job in queue):
        state, note = None, "taken over by a later job"
    else:
        state, note = job_state(job, queue)
    return JobRow(
        job.job,
        job.kind,
        state,
        note or None,
        job.nodes,
        job.ranks_per_node,
        job.submitted,
        job.after,
        job.logs,
    )


def _whole(*values: Any) -> int | None:
    """The first one that is a number."""
    found = [each for value in values if (each := number(value)) is not None]
    return int(found[0]) if found else None
