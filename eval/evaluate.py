"""From a network, or embeddings, and a trial list to error rates: in `python -m eval` and in training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from eval.backend import Backend
from eval.embed_all import embed_utterances
from eval.embeddings import Embeddings
from eval.metrics import OperatingPoint, detection_metrics
from eval.metrics.bootstrap import bootstrap, sides_of
from eval.protocol import Protocol
from eval.ranks import rank_and_world
from eval.scoring import build_scorer
from eval.speakers import numbered
from eval.trials import Trials
from eval.utterances import Utterances, require_all
from shard_tools.arrays import Float64Array
from shard_tools.errors import UserError
from shard_tools.text import redacted


@dataclass(frozen=True)
class EvaluationResult:
    """scores: float64 (T,), one a trial, in the list's order; metrics: plain values, ready for JSON.

    `metrics` holds what eval.metrics.detection_metrics gives (and bootstrap, where it was asked for), trials,
    targets and nontargets (None without labels), utterances, trial_list, trial_list_sha256, data, protocol
    (in words), scoring, normalisation (in words, or None), calibrated, crops, crop_feature_frames (None
    without crops that each have an embedding) and seconds.
    embeddings: of the trials' utterances, from which the scores came.
    """

    scores: Float64Array
    metrics: dict[str, Any]
    embeddings: Embeddings


def evaluate_network(
    network: nn.Module,
    source: Utterances,
    trials: Trials,
    *,
    device: torch.device,
    crops: int = 0,
    crop_feature_frames: int = 400,
    scoring: str = "cosine",
    p_targets: Sequence[float] = (0.05, 0.01),
    protocol: Protocol | None = None,
    batch_utterances: int = 16,
    threads: int = 4,
    progress: bool = False,
    made_by: str = "",
) -> EvaluationResult:
    """Embed the utterances of `trials`, score the trials, and compute EER and minDCF.

    Where torch.distributed is initialised every rank must call this with the same
    arguments: each embeds its part, and all return the same result. The rest is as in embed_utterances.
    Raises UserError for utterances that are missing or cannot be read.
    """
    start = time.perf_counter()
    require_all(source, trials.names, trials.name)
    embeddings = embed_utterances(
        network,
        source,
        trials.names,
        device=device,
        protocol=protocol,
        crops=crops,
        crop_feature_frames=crop_feature_frames,
        batch_utterances=batch_utterances,
        threads=threads,
        progress=progress,
        made_by=made_by,
    )
    result = evaluate_embeddings(
        embeddings,
        trials,
        scoring=scoring,
        points=p_targets,
        progress=progress and rank_and_world()[0] == 0,
    )
    result.metrics["data"] = redacted(source.url)
    result.metrics["seconds"] = round(time.perf_counter() - start, 3)
    return result


def evaluate_embeddings(
    embeddings: Embeddings,
    trials: Trials,
    *,
    scoring: str = "cosine",
    backend: Backend | None = None,
    points: Sequence[OperatingPoint | float] = (0.05, 0.01),
    speakers: Sequence[str] | None = None,
    draws: int = 0,
    progress: bool = False,
) -> EvaluationResult:
    """Score the trials and compute error rates, which a list without labels lacks.

    embeddings: of the trials' utterances at least; scoring: by name, unless there is a `backend`; speakers:
    of each of trials.names, for intervals from `draws` of them (0: none). Raises UserError for an embedding
    that is not there, for a back-end that does not fit, and for scores that are not finite.
    """
    start = time.perf_counter()
    backend = backend or Backend(scoring, build_scorer(scoring))
    how = {**facts(embeddings, trials), **backend.facts()}
    scores = finite_scores(backend.score(embeddings, trials, how, progress=progress), trials)
    calibrated = backend.calibration is not None
    figures = (
        detection_metrics(scores, trials.label, points, calibrated=calibrated) if trials.labelled else {}
    )
    if trials.labelled and draws:
        sides = sides_of(trials.left, trials.right, None if speakers is None else numbered(speakers))
        figures |= bootstrap(
            scores, trials.label, sides, points, calibrated=calibrated, draws=draws, progress=progress
        )
    metrics = {
        **figures,
        **how,
        "units": {**figures.get("units", {}), "seconds": "seconds"},
        "calibrated": calibrated,
        "seconds": round(time.perf_counter() - start, 3),
    }
    return EvaluationResult(scores, metrics, embeddings)


def facts(embeddings: Embeddings, trials: Trials) -> dict[str, Any]:
    """What was compared, and how it was cut: plain values for metrics.json."""
    targets = int(np.count_nonzero(trials.label > 0)) if trials.labelled else None
    return {
        "trials": len(trials),
        "targets": targets,
        "nontargets": None if targets is None else len(trials) - targets,
        "utterances": len(trials.names),
        "trial_list": trials.name,
        "trial_list_sha256": trials.digest,
        "protocol": embeddings.protocol,
        "crops": embeddings.crops,
        "crop_feature_frames": embeddings.crop_feature_frames or None,
    }


def finite_scores(scores: Float64Array, trials: Trials) -> Float64Array:
    """`scores`; UserError where one is NaN or infinite, naming its trial, before anything is made of them."""
    broken = np.flatnonzero(~np.isfinite(scores))
    if len(broken):
        first = int(broken[0])
        left, right = (trials.names[int(side[first])] for side in (trials.left, trials.right))
        raise UserError(
            f"{trials.name}: the scores of {len(broken)} of {len(trials)} trials are NaN or infinite, first "
            f"of {left} and {right}: see whether their embeddings are numbers"
        )
    return scores
