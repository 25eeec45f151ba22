"""How alike each utterance is to its speaker's others and to everybody else, in blocks of matrix products.

Memory: the embeddings, a direction of each utterance (4 bytes a number), the speakers' means in float64 and
float32, and some times _BLOCK_BYTES: nothing grows with utterances x speakers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shard_tools.arrays import Float32Array, Float64Array, Int64Array
from shard_tools.errors import UserError

_BLOCK_BYTES = 64 << 20
_PAIR_BYTES = 16 << 20  # whose places are sorted, at 8 bytes each


@dataclass(frozen=True, eq=False)
class Similarities:
    """Of each utterance; cosines, float32 (N,).

    own: to the mean of its speaker's other utterances, NaN where there are none; rival: to the mean of the
    other speaker who is most alike; rival_label: int64, who that is, -1 for nobody; mean, std: over all other
    speakers.
    """

    own: Float32Array
    rival: Float32Array
    rival_label: Int64Array
    mean: Float32Array
    std: Float32Array


def unit_means(vectors: Float32Array) -> Float32Array:
    """The direction of each utterance, float32 (N, D): the mean of its crops' unit vectors, of length 1.

    vectors: float32 (N, crops, D). An utterance whose embedding is 0 has none. Raises UserError for
    embeddings that are not finite.
    """
    units = np.empty((len(vectors), vectors.shape[2]), np.float32)
    rows = max(1, _BLOCK_BYTES // max(1, vectors[:1].nbytes))
    for first in range(0, len(vectors), rows):
        some = slice(first, first + rows)
        units[some] = _unit(_unit(vectors[some]).mean(axis=1))
    if not np.isfinite(units).all():
        broken = int(np.count_nonzero(~np.isfinite(units).all(axis=1)))
        raise UserError(f"the embeddings of {broken} of {len(vectors)} utterances hold NaN or infinity")
    return units


def speaker_sums(units: Float32Array, labels: Int64Array, speakers: int) -> tuple[Float64Array, Int64Array]:
    """(sums of each speaker's directions, float64 (S, D); how many, int64 (S,)); label -1 is nobody's."""
    sums = np.zeros((speakers, units.shape[1]))
    counts = np.bincount(labels[labels >= 0], minlength=speakers)
    rows = max(1, _BLOCK_BYTES // (8 * units.shape[1]))
    for first in range(0, len(units), rows):
        some = labels[first : first + rows]
        order = np.argsort(some, kind="stable")
        order = order[some[order] >= 0]
        if len(order):
            begins = np.flatnonzero(np.diff(some[order], prepend=-1))
            found = np.add.reduceat(units[first : first + rows][order].astype(np.float64), begins, axis=0)
            sums[some[order][begins]] += found
    return sums, counts


def compare(
    units: Float32Array,
    labels: Int64Array,
    speakers: int,
    trusted: np.ndarray,
    alike: dict[int, Int64Array],
) -> Similarities:
    """Every utterance against its own speaker's others and all other speakers.

    units: float32 (N, D), directions; labels: int64 (N,); trusted: bool (N,), the utterances of which means
    are made; alike: for a label, others that are probably the same person, who are nobody's rivals.
    """
    sums, counts = speaker_sums(units, np.where(trusted, labels, -1), speakers)
    means = _unit(sums).astype(np.float32)
    there = np.flatnonzero(counts)
    cohort = np.ascontiguousarray(means[there])
    place = np.full(speakers, -1, np.int64)
    place[there] = np.arange(len(there))
    rows = max(1, _BLOCK_BYTES // (4 * max(1, len(there))))
    count = len(units)
    own, rival, mean, std = (np.full(count, np.nan, np.float32) for _ in range(4))
    rival_label = np.full(count, -1, np.int64)
    for first in range(0, count, rows):
        some = slice(first, first + rows)
        mine, label = units[some], labels[some]
        others = sums[label] - np.where(trusted[some, None], mine, 0.0)
        left = counts[label] - trusted[some]
        own[some] = np.where(left > 0, np.einsum("nd,nd->n", _unit(others), mine), np.nan)
        found = mine @ cohort.T
        _hide(found, label, place, alike)
        hidden = np.isinf(found)
        number = found.shape[1] - hidden.sum(axis=1)
        any_other = number > 0
        best = found.argmax(axis=1) if len(there) else np.zeros(len(mine), np.int64)
        if not len(there):
            continue
        rival[some] = np.where(any_other, found[np.arange(len(mine)), best], np.nan)
        rival_label[some] = np.where(any_other, there[best], -1)
        found[hidden] = 0.0
        total = found.sum(axis=1, dtype=np.float64)
        square = np.einsum("ns,ns->n", found, found, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean[some] = total / number
            std[some] = np.sqrt(np.maximum(square / number - (total / number) ** 2, 0.0))
    return Similarities(own, rival, rival_label, mean, std)


def _hide(found: Float32Array, label: Int64Array, place: Int64Array, alike: dict[int, Int64Array]) -> None:
    """Put -inf where a column is the utterance's own speaker, or one who is probably the same person."""
    mine = place[label]
    has = np.flatnonzero(mine >= 0)
    found[has, mine[has]] = -np.inf
    for own in np.unique(label).tolist() if alike else ():
        same = alike.get(own)
        if same is not None:
            columns = place[same]
            found[np.ix_(np.flatnonzero(label == own), columns[columns >= 0])] = -np.inf


def closest_pairs(
    means: Float32Array, threshold: float, most: int
) -> tuple[list[tuple[int, int, float]], int]:
    """(up to `most` pairs (a, b, cosine) of rows a < b, the most alike first; how many are above it).

    means: float32 (S, D), of length 1; pairs are those whose cosine is above `threshold`.
    """
    rows = max(1, _PAIR_BYTES // (4 * max(1, len(means))))
    best: list[tuple[int, int, float]] = []
    total = 0
    for first in range(0, len(means), rows):
        found = means[first : first + rows] @ means.T
        found[np.arange(len(means)) <= np.arange(first, first + len(found))[:, None]] = -np.inf
        total += int(np.count_nonzero(found > threshold))
        flat = found.reshape(-1)
        some = np.argpartition(-flat, most)[:most] if len(flat) > most else np.arange(len(flat))
        some = some[flat[some] > threshold]
        left, right = np.divmod(some, len(means))
        best += zip((left + first).tolist(), right.tolist(), flat[some].tolist(), strict=True)
        best = sorted(best, key=lambda pair: (-pair[2], pair[0], pair[1]))[:most]
    return best, total


def half_similarities(units: Float32Array, labels: Int64Array, speakers: int) -> Float64Array:
    """Cosine of the means of two halves of each speaker's utterances, who has 4 or more; float64, ascending.

    Every other utterance of the speaker is in one half: what two sets of one person look like.
    """
    turn = np.empty(len(labels), np.int64)
    order = np.argsort(labels, kind="stable")
    counts = np.bincount(labels, minlength=speakers)
    turn[order] = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    one, _ = speaker_sums(units, np.where(turn % 2 == 0, labels, -1), speakers)
    other, _ = speaker_sums(units, np.where(turn % 2 == 1, labels, -1), speakers)
    enough = counts >= 4
    return np.sort(np.einsum("sd,sd->s", _unit(one[enough]), _unit(other[enough])))


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.sqrt(np.einsum("...d,...d->...", vectors, vectors, dtype=np.float64))
    made: np.ndarray = (vectors / np.maximum(length, 1e-12)[..., None]).astype(vectors.dtype)
    return made
