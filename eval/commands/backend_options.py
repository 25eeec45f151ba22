"""Options that say how embeddings become scores, and the back-end that they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, get_args

import yaml

from eval.backend import Backend
from eval.calibration import load_calibration
from eval.calibration.quality import kinds_of
from eval.commands.sets import EmbedAll, add_cohort, cohort_of, read_set
from eval.metrics import OperatingPoint
from eval.metrics.bootstrap import LEAST_DRAWS
from eval.protocol import Protocol
from eval.scoring import SCORERS, build_scorer, complete, learns
from eval.scoring.norm import Kind
from models.options import ModelError
from shard_tools.errors import UserError
from shard_tools.options import place, whole_number


def add_backend(parser: argparse.ArgumentParser) -> None:
    """--scoring, --norm, --calibration, and what they need."""
    parser.add_argument(
        "--scoring",
        choices=sorted(SCORERS),
        default="cosine",
        help="mean cosine over all pairs of crops (default); minus their mean distance (euclidean, VoxCeleb "
        "trainer); or, with a --training-set, cosines after its mean is taken away (centred), whitening, "
        "LDA, or two-covariance PLDA",
    )
    parser.add_argument(
        "--scoring-options",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="options of the scoring: dimension=150 of lda and plda, shrinkage=0.01 of those and whitening, "
        "iterations=10 and length_norm=true of plda",
    )
    parser.add_argument(
        "--norm", choices=get_args(Kind), help="score normalisation against a --cohort: Z, T, S or AS-norm"
    )
    add_cohort(parser, "of --norm, or of a calibration by the quality measure cohort")
    parser.add_argument(
        "--calibration",
        type=place,
        metavar="FILE",
        help="make log-likelihood ratios of the scores (a file of python -m eval calibrate)",
    )


def add_figures(parser: argparse.ArgumentParser) -> None:
    """--p-target, --operating-points and --bootstrap."""
    parser.add_argument(
        "--p-target",
        type=_probability,
        nargs="+",
        default=[0.05, 0.01],
        metavar="P",
        help="prior probabilities of a target trial for minDCF (default 0.05 0.01); costs are 1",
    )
    parser.add_argument(
        "--operating-points",
        type=_point,
        nargs="+",
        default=[],
        metavar="P,C_MISS,C_FA",
        help="further ones, with their costs: 0.01,10,1",
    )
    parser.add_argument(
        "--bootstrap",
        type=whole_number(0, 100_000),
        default=1000,
        metavar="N",
        help="draws of speakers for 95 %% intervals, where speakers are known (default 1000); 0 for none",
    )


def points_of(options: argparse.Namespace) -> list[OperatingPoint]:
    """The operating points, each once."""
    points = [*(OperatingPoint(p_target) for p_target in options.p_target), *options.operating_points]
    return list({point.name: point for point in points}.values())


def check_backend(options: argparse.Namespace) -> None:
    """Refuse, before any work, options that do not fit together. Raises UserError, naming one."""
    _scoring_options(options)
    learning = learns(options.scoring)
    if learning != "nothing" and options.training_set is None:
        raise UserError(f"--scoring {options.scoring} learns from {learning}: give --training-set too")
    if learning == "nothing" and options.training_set is not None:
        raise UserError(f"--scoring {options.scoring} learns nothing: leave --training-set out")
    calibration = None if options.calibration is None else load_calibration(options.calibration)
    by_cohort = calibration is not None and "cohort" in kinds_of(calibration.quality)
    if options.norm is not None and options.cohort is None:
        raise UserError("--norm needs --cohort too")
    if by_cohort and options.cohort is None:
        raise UserError(
            f"--calibration {options.calibration} needs the quality measure cohort: give --cohort"
        )
    if options.cohort is not None and options.norm is None and not by_cohort:
        raise UserError("--cohort needs --norm too, or a --calibration by the quality measure cohort")
    if options.cohort_of is not None and options.cohort is None:
        raise UserError(f"--cohort-of {options.cohort_of} needs --cohort too")
    if options.top is not None and not (options.norm == "as" or by_cohort):
        raise UserError(f"--top {options.top} is of --norm as, or of the quality measure cohort")
    if 0 < options.bootstrap < LEAST_DRAWS:
        raise UserError(
            f"--bootstrap {options.bootstrap}: {LEAST_DRAWS} draws or more make an interval; 0 makes none"
        )


def check_calibration(options: argparse.Namespace, made_by: str, protocol: Protocol) -> None:
    """Refuse a --calibration of other scores by what is known before the embedding. Raises UserError."""
    if options.calibration is None:
        return
    found = load_calibration(options.calibration)
    crops = protocol.crops if protocol.kind == "crops" else 0
    unknown = ("training_set", "normalisation", "quality_cohort")  # until these are read
    how = {name: found.scored.get(name) for name in unknown} | {
        "scoring": options.scoring,
        "scoring_options": complete(options.scoring, _scoring_options(options)),
        "protocol": protocol.text,
        "crops": crops,
        "crop_feature_frames": protocol.crop_frames if crops else None,
    }
    found.check(made_by, how)


def backend_of(
    options: argparse.Namespace, made_by: str, embed: EmbedAll, say: Callable[[str], None]
) -> Backend:
    """The back-end that the options mean, fitted.

    made_by: of the trials' embeddings; embed: for a training set or cohort of audio. Raises UserError.
    """
    given = _scoring_options(options)
    calibration = None if options.calibration is None else load_calibration(options.calibration)
    if calibration is not None:
        calibration.check_checkpoint(made_by)
    scorer, training, cohort = build_scorer(options.scoring, given), None, None
    if options.training_set is not None:
        found = read_set(options.training_set, "--training-set", made_by, embed, say)
        scorer, training = scorer.fit(found.embeddings, found.labels), found.text
    if options.cohort is not None:
        cohort = cohort_of(options, made_by, embed, say, of_top=options.norm in (None, "as"))
    every = complete(options.scoring, given)
    return Backend(options.scoring, scorer, every, training, options.norm, cohort, calibration)


def _scoring_options(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in options.scoring_options:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UserError(f"--scoring-options {text}: expected NAME=VALUE")
        if name in found:
            raise UserError(f"--scoring-options {text}: {name} is given twice")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(f"--scoring-options {text}: {value!r} is no value") from None
    try:
        build_scorer(options.scoring, found)
    except ModelError as error:
        raise UserError(f"--scoring-options: {error}") from None
    return found


def _point(text: str) -> OperatingPoint:
    try:
        p_target, c_miss, c_fa = (float(part) for part in text.split(","))
        return OperatingPoint(p_target, c_miss, c_fa)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not P,C_MISS,C_FA: a probability between 0 and 1, and two costs above 0"
        ) from None


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
