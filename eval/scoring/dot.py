"""Scores that are the dot product of one vector of each utterance, plus a term of each one's own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np
from tqdm import tqdm

from eval.embeddings import Embeddings
from eval.scoring.base import Learns
from eval.scoring.pairs import batches
from eval.scoring.unit import blocks, require_finite, require_same_dimensions
from eval.trials import Trials
from shard_tools.arrays import Float64Array, FloatArray, Int64Array

_TRIALS = 256  # whose vectors are fetched at a time: of 512 numbers a MiB in float64
_BLOCK_BYTES = 16 << 20  # of one block of scores against others


class Represented(NamedTuple):
    """Utterances a and b score scale_a * scale_b * (vectors_a @ vectors_b) + own_a + own_b, in float64.

    vectors: float32 or float64 (n, E); scale and own: float64 (n,).
    """

    vectors: FloatArray
    scale: Float64Array
    own: Float64Array


class DotScorer(ABC):
    """Utterances are represented once each; trials then cost a dot product.

    Memory beside the embeddings: one vector of each utterance, float32, or float64 where `represent` says so.
    """

    learns: ClassVar[Learns] = "nothing"

    @abstractmethod
    def represent(self, vectors: FloatArray) -> Represented:
        """Of embeddings (n, crops, D)."""

    @abstractmethod
    def size(self, dimensions: int) -> int:
        """E for embeddings of so many dimensions; UserError for those that cannot be scored."""

    def score(self, embeddings: Embeddings, trials: Trials, *, progress: bool = False) -> Float64Array:
        rows = embeddings.rows(trials.names)
        made, scale, own = self._represented(embeddings, rows)
        scores = np.empty(len(trials), np.float64)
        bar = tqdm(total=len(trials), desc="scoring", unit=" trials", unit_scale=True, disable=not progress)
        with bar, np.errstate(invalid="ignore", over="ignore"):
            for one, others, which in batches(trials.left, trials.right, _TRIALS):
                # take is several times as fast as made[one]; float32 in memory is multiplied in float64
                ones = np.take(made, one, axis=0).astype(np.float64, copy=False)[:, None]
                theirs = np.take(made, others, axis=0).astype(np.float64, copy=False)
                products = np.matmul(ones, theirs.transpose(0, 2, 1))[:, 0]
                products *= scale[one, None] * scale[others]
                products += own[one, None] + own[others]
                scores[which] = products
                bar.update(which.size)
        if not np.isfinite(scores).all():  # looked at here, as there are far fewer numbers than in `made`
            require_finite(embeddings, rows, made)
        return scores

    def against(
        self, embeddings: Embeddings, rows: Int64Array, others: Embeddings
    ) -> Iterator[tuple[slice, FloatArray]]:
        require_same_dimensions(embeddings, others)
        every = np.arange(len(others))
        theirs, made = self._represented(others, every), self._represented(embeddings, rows)
        require_finite(others, every, theirs.vectors)
        require_finite(embeddings, rows, made.vectors)
        across = (theirs.vectors * theirs.scale[:, None]).T
        size = max(1, _BLOCK_BYTES // max(1, 8 * len(others)))
        for first in range(0, len(rows), size):
            some = slice(first, min(first + size, len(rows)))
            scores = (made.vectors[some] * made.scale[some, None]) @ across
            if theirs.own.any():
                scores += made.own[some, None] + theirs.own
            yield some, scores

    def _represented(self, embeddings: Embeddings, rows: Int64Array) -> Represented:
        size = self.size(embeddings.vectors.shape[2])
        made: FloatArray = np.empty((0, size), np.float32)
        scale, own = np.empty((2, len(rows)))
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused later
            for some, vectors in blocks(embeddings.vectors, rows):
                part, scale[some], own[some] = self.represent(vectors)
                if not some.start:
                    made = np.empty((len(rows), size), part.dtype)
                made[some] = part
        return Represented(made, scale, own)
