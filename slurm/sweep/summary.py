"""What became of a sweep's runs: a table, sorted by the error rate."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from slurm.records import scheduler
from slurm.submit.launch import in_queue
from slurm.sweep.folder import SweepFolder
from slurm.watch.seen import Seen
from slurm.watch.state import run_state


@dataclass(frozen=True)
class Row:
    """A run: state as `status` calls it; step: of the last line of metrics; loss: its; eer: the lowest of a
    validation, in percent; failure: why it failed, in a line.
    """

    name: str
    values: dict[str, str]
    state: str
    step: int
    loss: float | None
    eer: float | None
    failure: str | None = None


def summarise(folder: SweepFolder) -> list[Row]:
    """The runs by their EER, lowest first; those without one last, by number."""
    runs = folder.runs()
    queue = in_queue([folder.folder_of(run) for run in runs], ["train"]) if scheduler.available() else None
    rows = []
    for run in runs:
        seen = Seen.read(folder.folder_of(run))
        state, why = run_state(seen, queue, time.time())
        last = seen.trained[-1] if seen.trained else {}
        rows.append(
            Row(
                run.name,
                run.values,
                state,
                int(last.get("step", seen.folder.saved_step())),
                _finite(last.get("loss")),
                _best(seen.validated),
                why if state in ("failed", "lost") and why else None,
            )
        )
    return sorted(rows, key=lambda row: (row.eer is None, row.eer or 0.0, row.name))


def table(rows: Sequence[Row]) -> str:
    """Markdown, which a terminal shows as a table too."""
    keys = list(dict.fromkeys(key for row in rows for key in row.values))
    lines = [["run", *keys, "state", "step", "last loss", "best EER %"]]
    for row in rows:
        values = [row.values.get(key, "") for key in keys]
        loss = "" if row.loss is None else f"{row.loss:.4f}"
        eer = "" if row.eer is None else f"{row.eer:.3f}"
        lines.append([row.name, *values, row.state, str(row.step), loss, eer])
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(1, ["-" * width for width in widths])
    shown = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    failures = [f"{row.name} {row.state}: {row.failure}" for row in rows if row.failure]
    return "\n".join([*shown, *(["", *failures] if failures else [])])


def write(folder: SweepFolder, rows: Sequence[Row]) -> None:
    """SWEEP/summary.json and summary.md. Raises SlurmError."""
    text = json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False, allow_nan=False)
    folder.publish("summary.json", text + "\n")
    folder.publish("summary.md", table(rows) + "\n")


def _finite(value: Any) -> float | None:
    """JSON has no NaN."""
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _best(validations: Sequence[dict[str, Any]]) -> float | None:
    found = [eer for line in validations if (eer := _finite(line.get("eer"))) is not None]
    return min(found, default=None)
