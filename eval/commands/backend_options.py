"""Options that say how embeddings become scores, and the back-end that they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, get_args

import yaml

from eval.audio_files import everything
from eval.backend import Backend, Norm
from eval.calibration import load_calibration
from eval.embedding_files import read_embeddings
from eval.embeddings import Embeddings
from eval.metrics import OperatingPoint
from eval.protocol import Protocol
from eval.scoring import SCORERS, build_scorer, learns
from eval.scoring.norm import Kind, speaker_means
from eval.speakers import numbered, speakers_of
from eval.utterances import Utterances, require_all
from models.options import ModelError
from shard_tools.arrays import Int64Array
from shard_tools.errors import UserError
from shard_tools.options import place, whole_number
from shard_tools.text import redacted

# The embeddings of a source's utterances, by the network and protocol of the evaluation; None without one.
EmbedAll = Callable[[Utterances, list[str]], Embeddings] | None


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
        help="options of the scoring, as dimensions=150",
    )
    parser.add_argument(
        "--training-set",
        type=place,
        metavar="URL_OR_FILE",
        help="what the scoring learns from: embeddings (.npz, .ark), or shards, a folder or a list, which "
        "are embedded first",
    )
    parser.add_argument(
        "--norm", choices=get_args(Kind), help="score normalisation against a --cohort: Z, T, S or AS-norm"
    )
    parser.add_argument(
        "--cohort", type=place, metavar="URL_OR_FILE", help="of --norm: given as a --training-set is"
    )
    parser.add_argument(
        "--cohort-of",
        choices=("speakers", "utterances"),
        default="speakers",
        help="whether the cohort is each speaker's mean embedding (default) or every utterance's",
    )
    parser.add_argument(
        "--top",
        type=whole_number(2, 1_000_000),
        default=300,
        metavar="K",
        help="highest scores of the cohort that AS-norm takes (default 300)",
    )
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
    if (options.norm is None) != (options.cohort is None):
        given, lacking = ("--norm", "--cohort") if options.norm else ("--cohort", "--norm")
        raise UserError(f"{given} needs {lacking} too")
    if options.calibration is not None:
        load_calibration(options.calibration)


def check_calibration(options: argparse.Namespace, made_by: str, protocol: Protocol) -> None:
    """Refuse a --calibration of other scores by what is known before the embedding. Raises UserError."""
    if options.calibration is None:
        return
    found = load_calibration(options.calibration)
    crops = protocol.crops if protocol.kind == "crops" else 0
    how = {
        "scoring": options.scoring,
        "normalisation": found.scored.get("normalisation"),  # of which the cohort's size is not yet known
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
    scorer = build_scorer(options.scoring, _scoring_options(options))
    if options.training_set is not None:
        training, labels = _set(options.training_set, "--training-set", made_by, embed, say)
        scorer = scorer.fit(training, labels)
    norm = None
    if options.norm is not None:
        cohort, labels = _set(options.cohort, "--cohort", made_by, embed, say)
        if options.cohort_of == "speakers":
            if labels is None:
                raise UserError(
                    f"--cohort {options.cohort}: nothing says who speaks in it (shards, or paths that begin "
                    "with the speaker's folder, do): give --cohort-of utterances"
                )
            cohort = speaker_means(cohort, labels)
        name = f"{options.cohort_of} of {redacted(options.cohort).rstrip('/').rsplit('/', 1)[-1]}"
        norm = Norm(options.norm, cohort, name, options.top)
    calibration = None if options.calibration is None else load_calibration(options.calibration)
    return Backend(options.scoring, scorer, norm, calibration)


def _set(
    url: str, option: str, made_by: str, embed: EmbedAll, say: Callable[[str], None]
) -> tuple[Embeddings, Int64Array | None]:
    """The embeddings of a training set or cohort, and the numbers of their speakers where they are known."""
    if url.lower().endswith((".npz", ".ark", ".scp")):
        found, source = read_embeddings(url), None
        if found.made_by and made_by and found.made_by != made_by:
            raise UserError(
                f"{option} {url}: embeddings of the checkpoint {found.made_by[:12]}…, and the trials' are of "
                f"{made_by[:12]}…: embed it with that one"
            )
    elif embed is None:
        raise UserError(f"{option} {url}: with --embeddings it must be embeddings too, .npz, .ark or .scp")
    else:
        source, names = everything(url, say)
        require_all(source, names, url)
        found = embed(source, names)
    speakers = speakers_of(found.names, source)
    return found, None if speakers is None else numbered(speakers)


def _scoring_options(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in options.scoring_options:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise UserError(f"--scoring-options {text}: expected NAME=VALUE")
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
