"""What is wrong with a training set's labels, as far as embeddings tell.

An utterance is suspect where it is more alike to the mean of some other speaker than to the mean of its own
speaker's other utterances (leave-one-out). Two speakers are suspect of being one where their means are as
alike as the means of two halves of one speaker's utterances usually are; such two are not each other's
rivals. What is suspect in one round is in no mean of the next, so that a speaker with many wrong utterances
does not hide them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from eval.audit.similarity import (
    Similarities,
    closest_pairs,
    compare,
    half_similarities,
    speaker_sums,
    unit_means,
)
from shard_tools.arrays import Float32Array, Int64Array
from shard_tools.errors import UserError

ROUNDS = 3
MOST_PAIRS = 1000
LEAST_PAIRS = 10
_TYPICAL = 0.05  # quantile of the own similarities that a rival's must reach to be believed

Kind = Literal["other speaker", "nobody"]


@dataclass(frozen=True)
class Suspect:
    """An utterance whose label is probably wrong.

    row: of the embeddings; own, rival: cosines to the mean of its speaker's others, and of the speaker who is
    most alike, `rival_label`; kind: "other speaker" where it is as alike to that one as most are
    to their own speaker, else "nobody": noise, a bad recording, or somebody who is not in the set.
    """

    row: int
    label: int
    own: float
    rival: float
    rival_label: int
    kind: Kind


@dataclass(frozen=True)
class Pair:
    """Two speakers who are probably one person: labels, and the cosine of their means."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, eq=False)
class Audit:
    """suspects: the most alike to the rival, against their own, first; pairs: the most alike first of
    `pairs_in_all`: a tenth of the speakers at most (LEAST_PAIRS, MOST_PAIRS), since a network that does not
    tell speakers apart would pair them all; pair_threshold: the cosine at which two speakers are a pair, None
    where too few have four utterances to say; single: labels of whom one utterance cannot be compared;
    similarities: of all, in the last round."""

    suspects: tuple[Suspect, ...]
    pairs: tuple[Pair, ...]
    pairs_in_all: int
    pair_threshold: float | None
    single: tuple[int, ...]
    similarities: Similarities


def audit(
    vectors: Float32Array,
    labels: Int64Array,
    speakers: int,
    *,
    margin: float = 0.0,
    pair_similarity: float | None = None,
    pair_quantile: float = 0.05,
) -> Audit:
    """Look for wrong labels among utterances.

    vectors: float32 (N, crops, D); labels: int64 (N,), below `speakers`; margin: by how much the rival must
    be more alike; pair_similarity: the cosine at which two speakers are a pair (None: that which all but
    `pair_quantile` of the speakers reach with their own two halves). Raises UserError for embeddings that are
    not finite, and for a set of one speaker.
    """
    present = np.bincount(labels, minlength=speakers)
    if np.count_nonzero(present) < 2:
        raise UserError("an audit compares speakers, and there is one alone in the embeddings")
    units = unit_means(vectors)
    if pair_similarity is None:
        halves = half_similarities(units, labels, speakers)
        pair_similarity = float(np.quantile(halves, pair_quantile)) if len(halves) >= 2 else None
    trusted = np.ones(len(labels), bool)
    suspect = np.zeros(len(labels), bool)
    pairs: list[Pair] = []
    total = 0
    for _ in range(ROUNDS):
        pairs, total = _pairs(units, np.where(trusted, labels, -1), speakers, pair_similarity)
        found = compare(units, labels, speakers, trusted, _alike(pairs))
        with np.errstate(invalid="ignore"):
            suspect = found.rival - found.own > margin
        now = ~suspect
        # Of whom nothing would be left, all is taken: there is no better mean.
        left = np.bincount(labels[now], minlength=speakers)
        now |= left[labels] == 0
        if np.array_equal(now, trusted):
            break
        trusted = now
    return Audit(
        tuple(_suspects(found, labels, suspect)),
        tuple(pairs),
        total,
        pair_similarity,
        tuple(np.flatnonzero(present == 1).tolist()),
        found,
    )


def _pairs(
    units: Float32Array, labels: Int64Array, speakers: int, threshold: float | None
) -> tuple[list[Pair], int]:
    """(the most alike pairs above `threshold`, how many there are)."""
    if threshold is None:
        return [], 0
    sums, counts = speaker_sums(units, labels, speakers)
    there = np.flatnonzero(counts)
    length = np.linalg.norm(sums[there], axis=1, keepdims=True)
    means = (sums[there] / np.maximum(length, 1e-12)).astype(np.float32)
    most = min(max(LEAST_PAIRS, len(there) // 10), MOST_PAIRS)
    best, total = closest_pairs(means, threshold, most)
    return [Pair(int(there[left]), int(there[right]), cosine) for left, right, cosine in best], total


def _alike(pairs: Sequence[Pair]) -> dict[int, Int64Array]:
    found: dict[int, list[int]] = {}
    for pair in pairs:
        found.setdefault(pair.first, []).append(pair.second)
        found.setdefault(pair.second, []).append(pair.first)
    return {label: np.array(others, np.int64) for label, others in found.items()}


def _suspects(found: Similarities, labels: Int64Array, suspect: np.ndarray) -> list[Suspect]:
    rows = np.flatnonzero(suspect)
    rows = rows[np.argsort(found.own[rows] - found.rival[rows], kind="stable")]
    sound = found.own[~suspect & np.isfinite(found.own)]
    typical = float(np.quantile(sound, _TYPICAL)) if len(sound) else np.inf
    return [
        Suspect(
            row,
            int(labels[row]),
            float(found.own[row]),
            float(found.rival[row]),
            int(found.rival_label[row]),
            "other speaker" if found.rival[row] >= typical else "nobody",
        )
        for row in rows.tolist()
    ]
