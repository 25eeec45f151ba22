"""What scorers learn from: one vector of each utterance, by speakers, and their scatter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from eval.embeddings import Embeddings
from eval.scoring.unit import require_finite
from shard_tools.arrays import Float64Array, Int64Array
from shard_tools.errors import UserError

_ROWS = 16384  # that are float64 at a time
_SINGULAR = 1e-10  # of the largest eigenvalue: float32 embeddings have no more to say


@dataclass(frozen=True, eq=False)
class Scatter:
    """The sums over a training set of N utterances of S speakers, after `mean` was taken away.

    counts: int64 (S,), utterances of each speaker; sums: float64 (S, D), of their vectors; total: float64
    (D, D), of the outer products of all vectors.
    """

    mean: Float64Array
    counts: Int64Array
    sums: Float64Array
    total: Float64Array

    @property
    def within(self) -> Float64Array:
        """Of the vectors around their speakers' means, (D, D); a sum, not divided."""
        return self.total - self.between

    @property
    def between(self) -> Float64Array:
        """Of the speakers' means, each as often as the speaker has utterances, (D, D)."""
        return (self.sums / self.counts[:, None]).T @ self.sums


def require_utterances(embeddings: Embeddings, scoring: str) -> None:
    """UserError for a training set of fewer than 2 utterances, or with numbers that are not finite."""
    if len(embeddings) < 2:
        raise UserError(
            f"scoring {scoring}: the training set has {len(embeddings)} utterance(s); it takes 2 or more"
        )
    every = np.arange(len(embeddings))
    for first in range(0, len(embeddings), _ROWS):
        rows = every[first : first + _ROWS]
        require_finite(embeddings, rows, embeddings.vectors[rows])


def require_speakers(embeddings: Embeddings, labels: Int64Array | None, scoring: str) -> Int64Array:
    """The labels as 0, 1, … Raises UserError where there are none, or too few, to learn speakers from."""
    if labels is None:
        raise UserError(
            f"scoring {scoring} learns from speakers, and nothing says who speaks in the training set;"
            " give shards, or paths that begin with the speaker's folder"
        )
    if len(labels) != len(embeddings):
        raise ValueError(f"{len(labels)} labels of {len(embeddings)} utterances")
    require_utterances(embeddings, scoring)
    speakers, numbers = np.unique(labels, return_inverse=True)
    if len(speakers) < 2:
        raise UserError(
            f"scoring {scoring}: all {len(labels)} utterances of the training set are of one speaker;"
            " it takes two or more speakers"
        )
    if len(speakers) == len(labels):
        raise UserError(
            f"scoring {scoring}: each of the {len(speakers)} speakers of the training set has one utterance;"
            " nothing tells how one speaker's utterances differ: give two or more of a speaker"
        )
    return numbers.astype(np.int64)


def utterance_vectors(embeddings: Embeddings) -> Iterator[tuple[slice, Float64Array]]:
    """The mean over crops of each utterance, float64 (n, D), some rows at a time."""
    for first in range(0, len(embeddings), _ROWS):
        some = slice(first, min(first + _ROWS, len(embeddings)))
        yield some, embeddings.vectors[some].mean(axis=1, dtype=np.float64)


def mean_of(blocks: Iterable[tuple[slice, Float64Array]]) -> Float64Array:
    """Of all rows, float64 (D,)."""
    total, rows = np.zeros(0), 0
    for _, vectors in blocks:
        total = vectors.sum(axis=0) + (total if rows else 0.0)
        rows += len(vectors)
    return total / rows


def scatter(blocks: Iterable[tuple[slice, Float64Array]], numbers: Int64Array, mean: Float64Array) -> Scatter:
    """Of blocks (n, D) of N rows, which are of the speakers `numbers` 0, 1, …, around their `mean`."""
    counts, size = np.bincount(numbers), len(mean)
    sums, total = np.zeros((len(counts), size)), np.zeros((size, size))
    for some, vectors in blocks:
        order = np.argsort(numbers[some], kind="stable")
        around = vectors[order] - mean
        speakers, starts = np.unique(numbers[some][order], return_index=True)
        sums[speakers] += np.add.reduceat(around, starts, axis=0)
        total += around.T @ around
    return Scatter(mean, counts, sums, total)


def usable(covariance: Float64Array, what: str, scoring: str, shrinkage: float) -> Float64Array:
    """The covariance, shrunk towards its mean eigenvalue; UserError where it is singular even so."""
    size = len(covariance)
    even = (covariance + covariance.T) / 2.0
    shrunk: Float64Array = (1.0 - shrinkage) * even + shrinkage * (np.trace(even) / size) * np.eye(size)
    values = np.linalg.eigvalsh(shrunk)
    rank = int(np.count_nonzero(values > max(values[-1], 0.0) * _SINGULAR))
    if rank < size:
        raise UserError(
            f"scoring {scoring}: the {what} covariance of the training set is singular (rank {rank} of {size}"
            " dimensions); give more utterances, or set the option shrinkage, such as 0.01"
        )
    return shrunk
