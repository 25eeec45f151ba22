"""The files that an evaluation leaves: metrics.json, scores.txt, det.png and report.html."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from eval.metrics import error_rates
from eval.report import plots
from eval.report.page import build_report, operating_points
from eval.trials import Trials
from shard_tools import storage
from shard_tools.arrays import Float64Array


def prepare_folder(url: str) -> None:
    """Make sure, before the long work, that `url` can be written; drop an earlier evaluation's metrics.json.

    metrics.json stands for a whole evaluation, so it must not outlive the files it
    was written with. Raises StorageError where nothing can be written.
    """
    storage.publish_bytes(storage.join(url, "metrics.json"), b"")
    storage.remove(storage.join(url, "metrics.json"))


def write_outputs(
    url: str,
    scores: Float64Array,
    trials: Trials,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
) -> None:
    """Write the four files below `url` (a folder or any URL), each whole or absent; metrics.json last.

    Nothing is written unless all four can be made. Raises ValueError for metrics that are not finite.
    """
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    rates = error_rates(scores, trials.label)
    points = operating_points(rates, metrics)
    title = f"Detection error trade-off: {trials.name}"
    det = plots.det_curve(rates, points, title, "png", digits=plots.score_digits(scores))
    page = build_report(scores, trials, rates, metrics, config)
    storage.publish_bytes(storage.join(url, "scores.txt"), scores_text(scores, trials).encode())
    storage.publish_bytes(storage.join(url, "det.png"), det)
    storage.publish_bytes(storage.join(url, "report.html"), page.encode())
    storage.publish_bytes(storage.join(url, "metrics.json"), text.encode())


def scores_text(scores: Float64Array, trials: Trials) -> str:
    """Lines `score path path` in the list's order, with as many digits as give the same float64 back.

    Parted by blanks, or by tabs where paths hold blanks.
    """
    names = trials.names
    gap = "\t" if any(" " in name for name in names) else " "
    lines = zip(scores.tolist(), trials.left.tolist(), trials.right.tolist(), strict=True)
    return "".join(f"{score!r}{gap}{names[left]}{gap}{names[right]}\n" for score, left, right in lines)
