"""The files that an evaluation leaves: metrics.json, scores.txt, trials.npz, det.png and report.html."""

from __future__ import annotations

import io
import json

import numpy as np

from eval.metrics import error_rates
from eval.report import plots
from eval.report.evaluation import Evaluation
from eval.report.page import build_report, operating_points
from eval.speakers import numbered
from eval.trials import Trials
from shard_tools import storage
from shard_tools.arrays import Float64Array
from shard_tools.errors import UserError

COLUMNS = "trials.npz"


def prepare_folder(url: str, last: str = "metrics.json") -> None:
    """Make sure, before the long work, that `url` can be written; drop what an earlier one wrote `last`.

    The file `last` stands for a whole evaluation (or another command's work), so it must not outlive the
    files it was written with. Raises StorageError where nothing can be written.
    """
    storage.publish_bytes(storage.join(url, last), b"")
    storage.remove(storage.join(url, last))
    if last == "metrics.json":  # of a list without labels there is no DET
        storage.remove(storage.join(url, "det.png"))


def write_outputs(url: str, evaluation: Evaluation) -> None:
    """Write the files below `url` (a folder or any URL), each whole or absent; metrics.json last.

    Of a list without labels there is no det.png. Nothing is written unless all can be made. Raises
    UserError for scores that are not finite, and ValueError for metrics that are not.
    """
    scores, trials, metrics = evaluation.scores, evaluation.trials, evaluation.metrics
    _check_finite(scores, trials)
    text = json.dumps(metrics, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    files = {"scores.txt": scores_text(scores, trials).encode(), COLUMNS: columns_of(evaluation)}
    if trials.labelled:
        rates = error_rates(scores, trials.label)
        title, digits = f"Detection error trade-off: {trials.name}", plots.score_digits(scores)
        points = operating_points(rates, metrics)
        files["det.png"] = plots.det_curve(rates, points, title, "png", digits=digits)
    files["report.html"] = build_report(evaluation).encode()
    files["metrics.json"] = text.encode()
    for name, data in files.items():
        storage.publish_bytes(storage.join(url, name), data)


def _check_finite(scores: Float64Array, trials: Trials) -> None:
    broken = np.flatnonzero(~np.isfinite(scores))
    if len(broken):
        first = int(broken[0])
        left, right = trials.names[trials.left[first]], trials.names[trials.right[first]]
        raise UserError(
            f"{trials.name}: {len(broken)} of {len(scores)} scores are not finite, first that of trial "
            f"{first + 1}, {left} {right}: nothing was written; look at the embeddings and the scoring"
        )


def columns_of(evaluation: Evaluation) -> bytes:
    """What scores.txt does not tell of the trials, as .npz: eval compare needs it.

    label: int8 (T,), -1 where there is none; left, right: int32 (T,), utterances; speaker: int32
    (utterances,), numbers, empty where they are not known.
    """
    trials, speakers = evaluation.trials, evaluation.known_speakers
    file = io.BytesIO()
    np.savez(
        file,
        label=trials.label,
        left=trials.left.astype(np.int32),
        right=trials.right.astype(np.int32),
        speaker=np.empty(0, np.int32) if speakers is None else numbered(speakers).astype(np.int32),
    )
    return file.getvalue()


def scores_text(scores: Float64Array, trials: Trials) -> str:
    """Lines `score path path` in the list's order, with as many digits as give the same float64 back.

    Parted by blanks, or by tabs where paths hold blanks.
    """
    names = trials.names
    gap = "\t" if any(" " in name for name in names) else " "
    lines = zip(scores.tolist(), trials.left.tolist(), trials.right.tolist(), strict=True)
    return "".join(f"{score!r}{gap}{names[left]}{gap}{names[right]}\n" for score, left, right in lines)
