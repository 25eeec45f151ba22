"""Minus the mean distance over all pairs of crops, as the VoxCeleb trainer scores."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from tqdm import tqdm

from eval.embeddings import Embeddings
from eval.scoring.base import Learns
from eval.scoring.exact import mean_distances
from eval.scoring.pairs import batches
from eval.scoring.unit import blocks, require_finite, require_same_dimensions, squares
from eval.trials import Trials
from shard_tools.arrays import Float64Array, FloatArray, Int64Array

_NUMBERS = 1 << 18  # of the embeddings that are fetched at a time: 1 MiB
_BLOCK = 1 << 22  # distances of crops in one block against others, 16 MiB
# The square of a distance comes out of float32 with an error of up to 7e-7, and the distance with that
# over twice itself. Crops that are nearer than this root are compared in float64 again.
_NEAR = np.float32(0.1)


class Euclidean:
    """Minus the mean distance of all crops of one utterance to all of the other, brought to length 1.

    Of one crop each in float64 (against others in float32); of several in float32, within 2e-6 of float64,
    but for crops that nearly coincide, in float64 too. Memory beside the embeddings: a number for each crop,
    and a few MiB.
    """

    learns: ClassVar[Learns] = "nothing"

    def fit(self, embeddings: Embeddings, labels: Int64Array | None = None) -> Euclidean:
        return self

    def score(self, embeddings: Embeddings, trials: Trials, *, progress: bool = False) -> Float64Array:
        vectors, rows = embeddings.vectors, embeddings.rows(trials.names)
        inverse, exact = _inverse_lengths(embeddings, rows)
        crops, dimensions = vectors.shape[1:]
        scores = np.empty(len(trials), np.float64)
        again = exact[trials.left] | exact[trials.right]
        most = max(8, _NUMBERS // (crops * dimensions))
        bar = tqdm(total=len(trials), desc="scoring", unit=" trials", unit_scale=True, disable=not progress)
        with bar, np.errstate(invalid="ignore", over="ignore"):  # of what is compared again
            for one, others, which in batches(trials.left, trials.right, most):
                theirs = np.take(vectors, rows[others], axis=0).reshape(len(one), -1, dimensions)
                ours = np.take(vectors, rows[one], axis=0)
                if crops == 1:  # errors do not average out, and it is little work
                    theirs, ours = theirs.astype(np.float64), ours.astype(np.float64)
                products = np.matmul(theirs, ours.transpose(0, 2, 1))  # (n, g * crops, crops)
                products *= inverse[others].reshape(len(one), -1, 1).astype(products.dtype, copy=False)
                products *= inverse[one][:, None].astype(products.dtype, copy=False)
                means, near = _distances(products.reshape(which.size, -1))
                scores[which.ravel()] = means
                again[which.ravel()] |= near
                bar.update(which.size)
        some = np.flatnonzero(again)
        left, right = rows[trials.left[some]], rows[trials.right[some]]
        scores[some] = mean_distances(vectors, left, vectors, right)
        return -scores

    def against(
        self, embeddings: Embeddings, rows: Int64Array, others: Embeddings
    ) -> Iterator[tuple[slice, FloatArray]]:
        ours, theirs = embeddings.vectors, others.vectors
        require_same_dimensions(embeddings, others)
        every = np.arange(len(others))
        inverse, exact = _inverse_lengths(embeddings, rows)
        their_inverse, their_exact = _inverse_lengths(others, every)
        across = theirs.reshape(-1, theirs.shape[2]).T
        size = max(1, _BLOCK // max(1, ours.shape[1] * across.shape[1]))
        for some, vectors in blocks(ours, rows, size):
            count = len(vectors)
            with np.errstate(invalid="ignore", over="ignore"):
                products = vectors.reshape(-1, vectors.shape[2]) @ across  # (n * crops, others * crops)
                products *= inverse[some].reshape(-1, 1).astype(np.float32)
                products *= their_inverse.reshape(1, -1).astype(np.float32)
            pairs = products.reshape(count, ours.shape[1], len(others), -1).transpose(0, 2, 1, 3)
            means, near = _distances(pairs.reshape(count * len(others), -1))
            again = near.reshape(count, -1) | exact[some, None] | their_exact
            scores = -means.reshape(count, -1).astype(np.float64)
            one, other = np.nonzero(again)
            scores[one, other] = -mean_distances(ours, rows[some][one], theirs, other)
            yield some, scores


def _distances(cosines: FloatArray) -> tuple[FloatArray, np.ndarray]:
    """From cosines (T, pairs), which are written over, to mean distances (T,), and whether any is near."""
    cosines *= np.float32(-2.0)
    cosines += np.float32(2.0)
    near = cosines.min(axis=1) < _NEAR
    np.maximum(cosines, np.float32(0.0), out=cosines)
    return np.sqrt(cosines, out=cosines).mean(axis=1), near


def _inverse_lengths(embeddings: Embeddings, rows: Int64Array) -> tuple[Float64Array, np.ndarray]:
    """Of each crop, float64 (rows, crops), and which utterances only float64 can tell: zeros, giants."""
    inverse = np.zeros((len(rows), embeddings.vectors.shape[1]), np.float64)
    exact = np.zeros(len(rows), bool)
    with np.errstate(invalid="ignore", over="ignore"):
        for some, vectors in blocks(embeddings.vectors, rows):
            one = vectors.shape[1] == 1  # as in `score`
            found, exact[some] = squares(vectors.astype(np.float64) if one else vectors)
            np.divide(1.0, np.sqrt(found), out=inverse[some], where=~exact[some, None])
    unusual = np.flatnonzero(exact)
    require_finite(embeddings, rows[unusual], embeddings.vectors[rows[unusual]])
    return inverse, exact
