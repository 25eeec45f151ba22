"""The mean cosine over all pairs of crops."""

from __future__ import annotations

import numpy as np

from eval.embeddings import Embeddings
from eval.scoring.dot import DotScorer, Represented
from eval.scoring.unit import SHORTEST, unit_means
from shard_tools.arrays import FloatArray, Int64Array


class Cosine(DotScorer):
    """The mean of the cosines of all crops of one utterance with all crops of the other.

    Of one crop each as in float64; of several within 1e-6, as their mean is kept as float32.
    """

    def fit(self, embeddings: Embeddings, labels: Int64Array | None = None) -> Cosine:
        return self

    def size(self, dimensions: int) -> int:
        return dimensions

    def represent(self, vectors: FloatArray) -> Represented:
        none = np.zeros(len(vectors))
        if vectors.shape[1] == 1:
            only = vectors[:, 0]
            exact = only.astype(np.float64)
            length = np.sqrt(np.einsum("nd,nd->n", exact, exact))
            return Represented(only, 1.0 / np.maximum(length, SHORTEST), none)
        # The mean over pairs of dot products is the dot product of the means.
        return Represented(unit_means(vectors), np.ones(len(vectors)), none)
