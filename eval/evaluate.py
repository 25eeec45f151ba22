"""From a network and a trial list to error rates: what `python -m eval` and validation in training run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from eval.embed import embed
from eval.embeddings import Embeddings
from eval.metrics import detection_metrics
from eval.scoring import build_scorer
from eval.trials import Trials
from eval.utterances import Utterances, require_all
from shard_tools.arrays import Float32Array, Float64Array
from shard_tools.text import redacted

_GATHER_ROWS_BYTES = 32 << 20  # of one rank in one collective, so that a full GPU has room for it


@dataclass(frozen=True)
class EvaluationResult:
    """scores: float64 (T,), one a trial, in the list's order; metrics: plain values, ready for JSON.

    `metrics` holds what eval.metrics.detection_metrics gives, and trials, targets, nontargets, utterances,
    trial_list, trial_list_sha256, data, scoring, crops, crop_feature_frames (None for whole utterances)
    and seconds.
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
    batch_utterances: int = 16,
    threads: int = 4,
    progress: bool = False,
    made_by: str = "",
) -> EvaluationResult:
    """Embed the utterances of `trials`, score the trials, and compute EER and minDCF.

    Where torch.distributed is initialised every rank must call this with the same
    arguments: each embeds its part, and all return the same result. The network is
    in evaluation mode meanwhile; its modules' modes are put back afterwards. Raises
    UserError for utterances that are missing or cannot be read.
    """
    start = time.perf_counter()
    scorer = build_scorer(scoring)
    require_all(source, trials.names, trials.name)
    embeddings = embed_utterances(
        network,
        source,
        trials.names,
        device=device,
        crops=crops,
        crop_feature_frames=crop_feature_frames,
        batch_utterances=batch_utterances,
        threads=threads,
        progress=progress,
        made_by=made_by,
    )
    scores = scorer.score(embeddings, trials, progress=progress and _rank_and_world()[0] == 0)
    targets = int(np.count_nonzero(trials.label))
    figures = detection_metrics(scores, trials.label, p_targets)
    metrics = {
        **figures,
        "units": {**figures["units"], "seconds": "seconds"},
        "trials": len(trials),
        "targets": targets,
        "nontargets": len(trials) - targets,
        "utterances": len(trials.names),
        "trial_list": trials.name,
        "trial_list_sha256": trials.digest,
        "data": redacted(source.url),
        "scoring": scoring,
        "crops": crops,
        "crop_feature_frames": crop_feature_frames if crops else None,
        "seconds": round(time.perf_counter() - start, 3),
    }
    return EvaluationResult(scores, metrics, embeddings)


def embed_utterances(
    network: nn.Module,
    source: Utterances,
    names: Sequence[str],
    *,
    device: torch.device,
    crops: int,
    crop_feature_frames: int,
    batch_utterances: int = 16,
    threads: int = 4,
    progress: bool = False,
    made_by: str = "",
) -> Embeddings:
    """The embeddings of `names`, on every rank all of them, where torch.distributed is initialised.

    The rest is as in evaluate_network, and in eval.embed.
    """
    rank, world = _rank_and_world()
    with _evaluation_mode(network):
        part = embed(
            network,
            source,
            names,
            crops=crops,
            crop_feature_frames=crop_feature_frames,
            device=device,
            batch_utterances=batch_utterances,
            threads=threads,
            rank=rank,
            world=world,
            progress=progress and rank == 0,
        )
    vectors = part if world == 1 else gather_rows(part, len(names), device)
    return Embeddings(tuple(names), vectors, crops, crop_feature_frames if crops else 0, made_by)


def _rank_and_world() -> tuple[int, int]:
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def gather_rows(part: Float32Array, total: int, device: torch.device) -> Float32Array:
    """All `total` rows on every rank, float32 (total, …), where rank r gives rows r, r + world, …"""
    world = dist.get_world_size()
    # NCCL moves only what is on a GPU; Gloo is given what is already in main memory.
    through = torch.device("cpu") if "gloo" in str(dist.get_backend()) else device
    longest = -(-total // world)
    padded = np.zeros((longest, *part.shape[1:]), np.float32)
    padded[: len(part)] = part
    block = max(1, _GATHER_ROWS_BYTES // max(1, padded[:1].nbytes))
    out = np.empty((total, *part.shape[1:]), np.float32)
    for first in range(0, longest, block):
        mine = torch.from_numpy(padded[first : first + block]).to(through)
        parts = [torch.empty_like(mine) for _ in range(world)]
        dist.all_gather(parts, mine)
        for rank, theirs in enumerate(parts):
            rows = out[rank::world][first : first + block]
            rows[...] = theirs.cpu().numpy()[: len(rows)]
    return out


@contextmanager
def _evaluation_mode(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode; afterwards every module has its own mode again, frozen ones too."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
