"""Fits, on a held-out list, what makes log-likelihood ratios of a model's scores."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from eval.calibration import Calibration, Quality, fit_calibration, measure
from eval.calibration.quality import KINDS
from eval.calibration.scores_file import scored_trials
from eval.commands.sets import add_cohort, cohort_of, read_set
from eval.embedding_files import read_embeddings
from eval.metrics import OperatingPoint, cllr, error_rates, min_cllr
from eval.scoring import Scorer, build_scorer, needs_training
from eval.trials import Trials
from models.options import ModelError
from shard_tools import storage
from shard_tools.arrays import Float64Array
from shard_tools.errors import UserError, exit_status
from shard_tools.options import number, place
from shard_tools.records import plain_mapping
from shard_tools.text import shown
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  # of an evaluation on a list that no other number will be of
  python -m eval calibrate runs/first/eval/held-out --trials held_out.txt --out calibration.json

  # with the durations and the lengths of the embeddings (of eval embed, or eval --save-embeddings)
  python -m eval calibrate runs/first/eval/held-out --trials held_out.txt --out calibration.json \\
      --embeddings held_out.npz --quality duration magnitude

  # with what the utterances score with the speakers of another set, too
  python -m eval calibrate runs/first/eval/held-out --trials held_out.txt --out calibration.json \\
      --embeddings held_out.npz --quality duration cohort --cohort vox2.npz
"""

_SMALL, _LARGE = 1e-6, 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    return exit_status(lambda: _calibrate(parser().parse_args(argv)), program="eval calibrate")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m eval calibrate",
        description="Fit, by logistic regression, a map from scores (and quality) to log-likelihood ratios.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "scores",
        type=place,
        metavar="SCORES",
        help="the folder of an evaluation, or a file of lines 'score path path' (metrics.json beside it says "
        "of which model)",
    )
    made.add_argument(
        "--trials",
        type=place,
        metavar="FILE",
        help="the list that was scored, lines 'label path path' (default: paths whose first folder is the "
        "same are of one speaker)",
    )
    made.add_argument(
        "--embeddings",
        type=place,
        metavar="FILE",
        help="the utterances' embeddings (.npz), on which quality is measured",
    )
    made.add_argument(
        "--quality",
        nargs="+",
        choices=KINDS,
        default=[],
        metavar="MEASURE",
        help="what scores are corrected by, of both utterances: duration (logarithm of seconds), magnitude "
        "(length of embeddings), cohort (mean and deviation of the highest scores with a --cohort)",
    )
    add_cohort(made, "of --quality cohort, embeddings")
    made.add_argument(
        "--prior",
        type=number(_SMALL, 1 - _SMALL),
        default=0.5,
        metavar="P",
        help="probability of a target trial by which the fit weights the classes (default 0.5: least Cllr)",
    )
    made.add_argument(
        "--p-target",
        type=number(_SMALL, 1 - _SMALL),
        default=0.05,
        metavar="P",
        help="probability of a target trial where decisions are made (default %(default)s)",
    )
    for name, what in (("miss", "rejecting a target trial"), ("fa", "accepting another")):
        made.add_argument(
            f"--c-{name}",
            type=number(_SMALL, _LARGE),
            default=1.0,
            metavar="COST",
            help=f"what {what} costs there (default 1)",
        )
    made.add_argument("--out", type=place, required=True, metavar="FILE", help="the calibration, as JSON")
    add_version(made)
    return made


def _calibrate(options: argparse.Namespace) -> None:
    _check(options)
    scores_url, metrics_url = _files(options.scores)
    metrics = _metrics(metrics_url)
    scores, trials = scored_trials(scores_url, options.trials)
    if options.trials is None:
        _say("without --trials, paths whose first folder is the same are taken as of one speaker")
    if metrics.get("calibrated"):
        raise UserError(
            f"{scores_url}: these scores are calibrated; evaluate without --calibration, and calibrate those"
        )
    made_by = str(metrics.get("checkpoint_sha256") or "")
    if not made_by:
        _say(f"{metrics_url} does not say which checkpoint was evaluated: the calibration cannot check it")
    quality, measured = None, None
    if options.quality:
        quality, measured = _quality(options, made_by, metrics, trials)
    found = fit_calibration(
        scores,
        trials.label,
        quality,
        prior=options.prior,
        point=OperatingPoint(options.p_target, options.c_miss, options.c_fa),
        made_by=made_by,
        metrics={**metrics, "quality_cohort": measured},
        trial_list=trials.name,
        trial_list_sha256=trials.digest if options.trials else "",
    )
    found.save(options.out)
    print(summary(found, found.apply(scores, quality), trials, options.out))


def _check(options: argparse.Namespace) -> None:
    """Refuse options that do not fit together. Raises UserError, naming one."""
    if options.quality and options.embeddings is None:
        raise UserError(
            f"--quality {' '.join(options.quality)}: give --embeddings FILE, where it is measured"
        )
    if options.embeddings is not None and not options.quality:
        raise UserError("--embeddings is where --quality is measured: give both, or neither")
    of_cohort = "cohort" in options.quality
    if of_cohort and options.cohort is None:
        raise UserError("--quality cohort: give --cohort FILE, whose members are compared with")
    for name in ("cohort", "cohort_of", "top", "training_set"):
        if getattr(options, name) is not None and not of_cohort:
            raise UserError(f"--{name.replace('_', '-')} is of --quality cohort: give both, or neither")


def _quality(
    options: argparse.Namespace, made_by: str, metrics: Mapping[str, Any], trials: Trials
) -> tuple[Quality, str | None]:
    """The measures of --quality, and what the calibration remembers of the cohort."""
    embeddings = read_embeddings(options.embeddings)
    if made_by and embeddings.made_by != made_by:
        raise UserError(
            f"{options.embeddings}: these embeddings ({embeddings.made_by[:12]}…) are of another "
            f"checkpoint than the scores ({made_by[:12]}…); give those that were scored"
        )
    kinds = list(dict.fromkeys(options.quality))
    if "cohort" not in kinds:
        return measure(kinds, trials, embeddings), None
    scorer = _scorer(options, made_by, metrics)
    cohort = cohort_of(options, made_by, None, _say, of_top=True)
    statistics = cohort.statistics(scorer, embeddings, trials)
    return measure(kinds, trials, embeddings, statistics), cohort.measured


def _scorer(options: argparse.Namespace, made_by: str, metrics: Mapping[str, Any]) -> Scorer:
    """That which made the scores, for the cohort's."""
    name = str(metrics.get("scoring") or "cosine")
    try:
        scorer = build_scorer(name, metrics.get("scoring_options") or {})
    except ModelError as error:
        raise UserError(f"{options.scores}: {error}; evaluate again") from None
    if not needs_training(name):
        if options.training_set is not None:
            raise UserError(f"the scores are {name} scores, which learn nothing: leave --training-set out")
        return scorer
    if options.training_set is None:
        raise UserError(f"the scores are {name} scores: give their --training-set too")
    found = read_set(options.training_set, "--training-set", made_by, None, _say)
    if found.text != metrics.get("training_set"):
        raise UserError(
            f"--training-set {options.training_set}: {found.text}; the scores' was "
            f"{metrics.get('training_set') or 'another'}: give that one"
        )
    return scorer.fit(found.embeddings, found.labels)


def summary(found: Calibration, llr: Float64Array, trials: Trials, out: str) -> str:
    """What the command prints at its end."""
    weights = {"score": found.weight, **found.quality, "offset": found.offset}
    lines = [
        f"{trials.name or 'the scores'}: {len(trials):,} trials, {found.trained_on.targets:,} of them target",
        f"  Cllr                 {cllr(llr, trials.label):8.4f} bits, "
        f"{min_cllr(error_rates(llr, trials.label)):.4f} with the best monotone map",
        *(f"  {name:<20} {weight:+8.4f}" for name, weight in weights.items()),
    ]
    if found.score_threshold is not None:
        lines.append(f"  accept from          {found.score_threshold:8.4f} on, at {_point(found)}")
    else:
        lines.append(
            f"  accept from          {found.threshold:8.4f} on (log-likelihood ratio), at {_point(found)}"
        )
    return "\n".join([*lines, f"  calibration: {shown(out)}"])


def _point(found: Calibration) -> str:
    return f"p_target {found.p_target:g}, c_miss {found.c_miss:g}, c_fa {found.c_fa:g}"


def _files(url: str) -> tuple[str, str]:
    """scores.txt and metrics.json of the evaluation's folder `url`, or of a file of scores."""
    inside = storage.join(url, "scores.txt")
    if _is_folder(url, inside):
        return inside, storage.join(url, "metrics.json")
    folder, slash, _ = url.rpartition("/")
    return url, storage.join(folder, "metrics.json") if slash else "metrics.json"


def _is_folder(url: str, inside: str) -> bool:
    path = storage.local_path(url)
    return storage.kind(path) == "folder" if path is not None else storage.exists(inside)


def _metrics(url: str) -> Mapping[str, Any]:
    if not storage.exists(url):
        return {}
    return plain_mapping(storage.read_bytes(url), url, "evaluate again")


def _say(text: str) -> None:
    print(f"eval calibrate: {shown(text)}", file=sys.stderr)
