"""Rows of runs as text: a table of several, or all about one."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path

from slurm.records.run_folder import Attempt
from slurm.records.runs import shown_path
from slurm.watch.first_cause import FirstCause, last_line
from slurm.watch.rows import Row

_HEADS = (
    "RUN", "STATE", "JOB", "SIZE", "STEP", "", "LOSS", "UTT/S", "WAIT", "BEST EER", "LAST", "RESTARTS",
    "LEFT", "TO END", "NOTE",
)  # fmt: skip
_RIGHT = range(4, 14)  # columns of numbers

_CAUSE_LINES = 12  # of a traceback; `logs` shows all
_NOTE = 70  # characters


def table(rows: Sequence[Row], width: int | None) -> str:
    """width: of the terminal; notes that do not fit it stand below their rows, cut to it."""
    cells = [_HEADS, *(_cells(row) for row in rows)]
    shown = [at for at in range(len(_HEADS)) if any(line[at] for line in cells[1:])]
    whole = _lines(cells, shown)
    note = len(_HEADS) - 1
    if width is None or max(map(len, whole)) <= width or note not in shown:
        return "\n".join(whole)
    lines = []
    for line, row in zip(_lines(cells, shown[:-1]), [None, *rows], strict=True):
        lines.append(line)
        if row is not None and row.note:
            below = f"    {row.note}"
            lines.append(_cut(below, width))
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _lines(cells: Sequence[Sequence[str]], shown: Sequence[int]) -> list[str]:
    widths = {at: max(len(line[at]) for line in cells) for at in shown}
    return [
        "  ".join(
            line[at].rjust(widths[at]) if at in _RIGHT else line[at].ljust(widths[at]) for at in shown
        ).rstrip()
        for line in cells
    ]


def _cells(row: Row) -> tuple[str, ...]:
    idle = row.state not in ("running", "done")
    return (
        shown_path(Path(row.run)),
        row.state,
        row.job or "",
        _size(row),
        "" if row.step is None else str(row.step) if not row.last_step else f"{row.step}/{row.last_step}",
        "" if row.share is None else f"{_percent(row.share)}%",
        "" if row.loss is None else f"{row.loss:.3f}",
        "" if row.utterances_per_second is None or idle else f"{row.utterances_per_second:.0f}",
        "" if row.data_wait is None or idle else f"{100 * row.data_wait:.0f}%",
        "" if row.eer_best is None else f"{row.eer_best:.2f}%",
        "" if row.eer_last is None else f"{row.eer_last:.2f}%",
        "" if not row.restarts else str(row.restarts),
        row.time_left or "",
        "" if row.seconds_to_end is None else duration(row.seconds_to_end),
        row.note or "",
    )


def _size(row: Row) -> str:
    if row.nodes is None:
        return "" if row.world is None else f"1x{row.world}"
    return f"{row.nodes}x{row.ranks_per_node}"


def _percent(share: float) -> int:
    """100 only when all is done."""
    return int(100 * share)


def block(
    row: Row, attempts: Sequence[Attempt], cause: FirstCause | None, now: float, evaluation: str = ""
) -> str:
    """All about one run.

    attempts: of its newest training; cause: of the last failure, if there was one; evaluation: what the
    newest one found.
    """
    name = shown_path(Path(row.run))
    lines = [f"{name}: {row.state}{f' ({row.note})' if row.note and row.state != 'failed' else ''}", ""]
    facts = {
        "job": _job(row),
        "progress": _progress(row),
        "speed": _speed(row),
        "to the end": _to_end(row, now),
        "loss": _loss(row),
        "EER": _error_rate(row),
        "evaluation": evaluation,
        "last word": ""
        if row.updated is None
        else f"{duration(now - row.updated)} ago, {clock(row.updated)}",
    }
    lines += [f"  {head:<11} {text}" for head, text in facts.items() if text]
    if row.jobs:
        lines += ["", "  jobs", *_indented(_jobs(row))]
    if attempts:
        lines += ["", "  starts", *_indented(_attempts(attempts))]
    if cause is not None:
        lines += ["", f"  {cause_head(cause)}", *_indented(_end_of(cause.text))]
    lines += ["", "  next", *_indented(next_commands(row))]
    return "\n".join(lines)


def _job(row: Row) -> str:
    size = "" if row.nodes is None else f", {row.nodes} x {row.ranks_per_node} ranks"
    if row.job is None:
        return "" if row.world is None else f"none, started by hand; {row.world} ranks"
    hosts = f" on {' '.join(row.hosts)}" if row.hosts and row.state == "running" else ""
    left = f"; {row.time_left} left until its time limit" if row.time_left else ""
    return f"{row.job}{f' {row.job_state}' if row.job_state else ''}{hosts}{size}{left}"


def _progress(row: Row) -> str:
    if row.step is None:
        return ""
    of = f" of {row.last_step} ({_percent(row.share)} %)" if row.last_step and row.share is not None else ""
    saved = "" if row.saved_step is None else f", checkpoint of step {row.saved_step}"
    again = "" if not row.restarts else f"; {row.restarts} restart{'s' if row.restarts > 1 else ''}"
    return f"step {row.step}{of}{saved}{again}"


def _speed(row: Row) -> str:
    parts = []
    if row.utterances_per_second is not None:
        parts.append(f"{row.utterances_per_second:.0f} utterances/s")
    if row.seconds_per_step is not None:
        parts.append(f"{row.seconds_per_step:.3g} s a step")
    if row.data_wait is not None:
        parts.append(f"{100 * row.data_wait:.0f} % of the time waiting for data")
    return ", ".join(parts)


def _to_end(row: Row, now: float) -> str:
    if row.seconds_to_end is None:
        return ""
    return f"{duration(row.seconds_to_end)}, {clock(now + row.seconds_to_end)}"


def _loss(row: Row) -> str:
    accuracy = "" if row.accuracy is None else f", accuracy {100 * row.accuracy:.1f} %"
    return "" if row.loss is None else f"{row.loss:.3f}{accuracy}"


def _error_rate(row: Row) -> str:
    if row.eer_best is None or row.eer_last is None:
        return ""
    best = f"best {row.eer_best:.2f} % at step {row.eer_best_step}"
    return f"{best}, last {row.eer_last:.2f} % at step {row.eer_last_step}"


def _jobs(row: Row) -> list[str]:
    cells = []
    for job in row.jobs:
        after = f"after {job.after}" if job.after and job.state in ("pending", "unknown") else ""
        note = job.note if job.job != row.job else None
        cells.append(
            [
                job.job, job.kind, job.state or "", f"{job.nodes}x{job.ranks_per_node}",
                clock(job.submitted), "  ".join(filter(None, [after, note])),
            ]
        )  # fmt: skip
    return aligned(cells)


def _attempts(attempts: Sequence[Attempt]) -> list[str]:
    cells = []
    for each in attempts:
        lasted = "" if each.ended is None else duration(each.ended - each.started)
        steps = (
            f"step {each.saved_before}"
            if each.saved_after is None
            else (f"steps {each.saved_before} to {each.saved_after}")
        )
        how = each.outcome or ("" if each is attempts[-1] else "ended without a word")
        cause = _cut(last_line(each.cause), _NOTE)
        hosts = (
            " ".join(each.nodes)
            if len(each.nodes) <= 4
            else f"{each.nodes[0]} and {len(each.nodes) - 1} more"
        )
        cells.append(
            [
                each.attempt,
                hosts,
                clock(each.started),
                lasted,
                steps,
                how,
                cause,
            ]
        )
    return aligned(cells)


def _end_of(text: str) -> list[str]:
    lines = text.splitlines()
    if len(lines) <= _CAUSE_LINES:
        return lines
    return [f"… {len(lines) - _CAUSE_LINES} more lines: see logs", *lines[-_CAUSE_LINES:]]


def cause_head(cause: FirstCause) -> str:
    if cause.file is not None:
        return f"likely cause (nobody left a record; from {shown_path(cause.file)})"
    parts = [] if cause.rank is None else [f"rank {cause.rank}"]
    parts += [] if cause.host is None else [f"node {cause.host}"]
    parts += [] if cause.time is None else [clock(cause.time)]
    parts += [] if cause.attempt is None else [f"start {cause.attempt}"]
    return f"first cause of the last failure ({', '.join(parts)})"


def next_commands(row: Row) -> list[str]:
    """What to type."""
    name = shlex.quote(shown_path(Path(row.run)))
    train = any(job.kind == "train" for job in row.jobs)
    by_hand = f"-m train --config {name}/config.yaml"
    if row.world and row.world > 1:
        by_hand = f"-m torch.distributed.run --standalone --nproc-per-node {row.world} {by_hand}"
    again = f"python -m slurm resume {name}" if train else f"python {by_hand}"
    logs = f"python -m slurm logs {name}"
    show_logs = [] if not row.jobs else [logs]
    return {
        "pending": [f"python -m slurm logs -f {name}", f"python -m slurm cancel {name}"],
        "running": [f"python -m slurm logs -f {name}" if row.jobs else f"tail -f {name}/log.txt"]
        + ([f"python -m slurm cancel {name}"] if row.jobs else []),
        "waiting": [f"python -m slurm logs -f {name}      # it goes on by itself"],
        "stopped": [f"{again}      # goes on from step {row.saved_step or 0}"],
        "done": [f"tensorboard --logdir {name}"] if row.step is not None else [logs],
        "failed": [
            *show_logs,
            f"{again}      # when the cause is mended; goes on from step {row.saved_step or 0}",
        ],
        "lost": [*show_logs, f"{again}      # goes on from step {row.saved_step or 0}"],
        "unknown": [f"python -m slurm status {name}      # where SLURM's commands are"]
        if row.jobs
        else [again],
    }[row.state]


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns; empty ones are left out."""
    widths = [max(len(line[at]) for line in cells) for at in range(len(cells[0]))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True) if width).rstrip()
        for line in cells
    ]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def clock(seconds: float) -> str:
    try:
        return time.strftime("%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):  # no time that a clock can show
        return "?"
