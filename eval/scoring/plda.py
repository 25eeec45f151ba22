"""Two-covariance PLDA: the log-likelihood ratio of one speaker to two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np

from eval.embeddings import Embeddings
from eval.scoring.base import Learns
from eval.scoring.dot import DotScorer, Represented
from eval.scoring.projected import MOST, lda, trained
from eval.scoring.training import mean_of, require_speakers, scatter, usable, utterance_vectors
from eval.scoring.two_covariance import TwoCovariance, expectation_maximisation
from models.options import Within
from shard_tools.arrays import Float64Array, FloatArray, Int64Array


class PLDA(DotScorer):
    """Natural log-likelihood ratios, in float64; an utterance is the mean of its crops.

    The training set's mean is taken away; `dimension` above 0 projects by LDA; length_norm divides by the
    length; the two covariances then follow by expectation-maximisation.
    shrinkage: of the covariance within speakers, from which it starts, towards a multiple of the identity.
    Source: Brümmer and de Villiers, Odyssey 2010; Garcia-Romero and Espy-Wilson, Interspeech 2011.
    """

    name: ClassVar[str] = "plda"
    learns: ClassVar[Learns] = "speakers"

    def __init__(
        self,
        *,
        dimension: Annotated[int, Within(0, MOST)] = 0,
        iterations: Annotated[int, Within(1, 10000)] = 10,
        length_norm: bool = True,
        shrinkage: Annotated[float, Within(0, 1)] = 0.0,
    ) -> None:
        self.dimension = dimension
        self.iterations = iterations
        self.length_norm = length_norm
        self.shrinkage = shrinkage
        self.mean: Float64Array | None = None  # of the training set
        self.axes: Float64Array | None = None  # of LDA
        self.model: TwoCovariance | None = None

    def fit(self, embeddings: Embeddings, labels: Int64Array | None = None) -> PLDA:
        numbers = require_speakers(embeddings, labels, self.name)
        self.mean, self.axes = mean_of(utterance_vectors(embeddings)), None
        if self.dimension:
            self.axes = lda(embeddings, numbers, self.dimension, self.shrinkage, self.name)[1]
        found = scatter(self._training(embeddings), numbers, mean_of(self._training(embeddings)))
        free = len(numbers) - len(found.counts)
        within = usable(found.within / free, "within-speaker", self.name, self.shrinkage)
        means = found.sums / found.counts[:, None]
        between = means.T @ means / len(means)
        self.model = expectation_maximisation(found, within, between, self.iterations)
        return self

    def use(self, model: TwoCovariance) -> PLDA:
        """Score by this model, made elsewhere, of embeddings as they are (but for length_norm's part)."""
        self.mean, self.axes, self.model = np.zeros_like(model.mean), None, model
        return self

    def size(self, dimensions: int) -> int:
        trained(self.mean, dimensions, self.name)
        assert self.model is not None
        return len(self.model.psi)

    def represent(self, vectors: FloatArray) -> Represented:
        assert self.model is not None
        found = self._prepared(vectors.mean(axis=1, dtype=np.float64))
        found = (found - self.model.mean) @ self.model.matrix
        psi = self.model.psi
        # In each dimension x and y have the variance 1 + psi, and the covariance psi if of one speaker.
        constant = np.log1p(psi).sum() - 0.5 * np.log1p(2.0 * psi).sum()
        own = -0.5 * (found * found) @ (psi**2 / ((1.0 + psi) * (1.0 + 2.0 * psi)))
        made = found * np.sqrt(psi / (1.0 + 2.0 * psi))
        return Represented(made, np.ones(len(made)), own + 0.5 * constant)

    def _training(self, embeddings: Embeddings) -> Iterator[tuple[slice, Float64Array]]:
        for some, vectors in utterance_vectors(embeddings):
            yield some, self._prepared(vectors)

    def _prepared(self, vectors: Float64Array) -> Float64Array:
        made: Float64Array = vectors - trained(self.mean, vectors.shape[1], self.name)
        if self.axes is not None:
            made = made @ self.axes
        if self.length_norm:
            made = made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
        return made
