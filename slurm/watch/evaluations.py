"""What the evaluations of a run have found: RUN/eval/*/metrics.json and the reports beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shard_tools.records import RecordError, decode
from slurm.records.run_folder import RunFolder
from slurm.records.runs import shown_path


@dataclass(frozen=True)
class _Metrics:
    trial_list: str
    eer: float | None = None  # percent; None of a list without labels
    step: int | None = None


def newest_evaluation(folder: RunFolder) -> str:
    """Its error rate and where its report lies, in a line; "" where there is none."""
    found = sorted((folder.path / "eval").glob("*/metrics.json"), key=_written)
    if not found:
        return ""
    try:
        metrics = decode(found[-1].read_bytes(), _Metrics, shown_path(found[-1]), "evaluate again")
    except RecordError as error:
        return str(error)
    except OSError:
        return ""
    step = "" if metrics.step is None else f" of step {metrics.step}"
    report = shown_path(found[-1].with_name("report.html"))
    rate = "scores" if metrics.eer is None else f"EER {metrics.eer:.2f} %"
    return f"{rate} on {metrics.trial_list[:100]}{step}: {report}"


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
