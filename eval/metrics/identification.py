"""Closed-set identification: whether the enrolled speaker that is most like an utterance is its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from eval.embeddings import Embeddings
from eval.metrics.bootstrap import CONFIDENCE, DRAWS
from eval.metrics.resampling import multiplicities
from eval.speakers import numbered
from shard_tools.arrays import Float64Array, Int64Array
from shard_tools.errors import UserError

TOP = (1, 5, 10)
_SHOWN = 10
_CHUNK_BYTES = 64 << 20  # cosines of a chunk of utterances with all speakers
METHOD = "percentiles over the speakers of the test utterances, drawn with replacement; who is enrolled stays"


def identification_metrics(
    enrolment: Embeddings,
    enrolled: Sequence[str],
    tests: Embeddings,
    spoken: Sequence[str],
    *,
    top: Sequence[int] = TOP,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> dict[str, Any]:
    """Top-k rates of the utterances `tests` by `spoken`, against the speakers `enrolled` of `enrolment`.

    enrolled, spoken: the speaker of each utterance, as eval.speakers gives them. A speaker's model is the
    mean of all crops' embeddings brought to length 1, an utterance likewise; they are compared by cosine. A
    speaker who is just as like as the right one comes before it.

    draws: 0 for no intervals.

    Returns top_k (percent, by k as text), mean_reciprocal_rank, enrolled_speakers, test_utterances, and
    intervals and bootstrap as eval.metrics.bootstrap (over the tests' speakers, of whom there must be
    2). Raises UserError for speakers who are not enrolled (ten of them and a count), and for a k below 1.
    """
    for k in top:
        if k < 1:
            raise UserError(f"top {k} holds no speaker; k is 1 or more")
    speakers = {speaker: number for number, speaker in enumerate(dict.fromkeys(enrolled))}
    unknown = [speaker for speaker in dict.fromkeys(spoken) if speaker not in speakers]
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise UserError(
            f"{len(unknown)} speakers of the test utterances are not enrolled: "
            f"{', '.join(unknown[:_SHOWN])}{more}; enrol them, or leave their utterances out"
        )
    models = _means(enrolment, numbered(enrolled), len(speakers))
    ranks = true_ranks(models, _sides(tests), np.array([speakers[speaker] for speaker in spoken], np.int64))
    found: dict[str, Any] = {
        "top_k": {str(k): 100.0 * float(np.mean(ranks <= k)) for k in top},
        "mean_reciprocal_rank": float(np.mean(1.0 / ranks)),
        "enrolled_speakers": len(speakers),
        "test_utterances": len(ranks),
    }
    if not draws:
        return found
    return found | _intervals(ranks, numbered(spoken), top, draws, seed, confidence)


def true_ranks(models: Float64Array, tests: Float64Array, own: Int64Array) -> Int64Array:
    """The place of its own speaker for each test, from 1 on, int64 (U,).

    models: (S, D) and tests: (U, D), compared by their dot products; own: int64 (U,), in [0, S).
    """
    ranks = np.empty(len(tests), np.int64)
    chunk = max(1, _CHUNK_BYTES // (8 * len(models)))
    for first in range(0, len(tests), chunk):
        some = slice(first, first + chunk)
        likeness = tests[some] @ models.T
        right = np.take_along_axis(likeness, own[some, None], axis=1)
        ranks[some] = np.count_nonzero(likeness >= right, axis=1)  # itself among them
    return ranks


def _intervals(
    ranks: Int64Array, own: Int64Array, top: Sequence[int], draws: int, seed: int, confidence: float
) -> dict[str, Any]:
    speakers = int(own.max()) + 1
    if speakers < 2:
        return {"intervals": None, "bootstrap": {"reason": "the test utterances are of one speaker"}}
    utterances = np.bincount(own, minlength=speakers)
    hits = np.stack([np.bincount(own[ranks <= k], minlength=speakers) for k in top], axis=1)
    drawn = np.array(
        [
            100.0 * (times @ hits) / (times @ utterances)
            for times in (multiplicities(seed, draw, speakers) for draw in range(draws))
        ]
    )
    low, high = np.quantile(drawn, [0.5 - confidence / 2, 0.5 + confidence / 2], axis=0)
    ends = zip(top, low.tolist(), high.tolist(), strict=True)
    how = {"method": METHOD, "confidence": confidence, "draws": draws, "seed": seed, "speakers": speakers}
    return {"intervals": {"top_k": {str(k): {"low": a, "high": b} for k, a, b in ends}}, "bootstrap": how}


def _means(embeddings: Embeddings, speakers: Int64Array, count: int) -> Float64Array:
    sums = np.zeros((count, embeddings.vectors.shape[-1]))
    np.add.at(sums, speakers, _sides(embeddings))
    return _unit(sums)


def _sides(embeddings: Embeddings) -> Float64Array:
    """The mean of the crops' embeddings, each at length 1, brought to length 1; float64 (utterances, D)."""
    return _unit(_unit(embeddings.vectors).mean(axis=1))


def _unit(vectors: npt.NDArray[np.floating]) -> Float64Array:
    long = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Float64Array = (vectors / np.maximum(long, 1e-12)).astype(np.float64)
    return unit
