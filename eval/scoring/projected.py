"""Cosine after a projection that was learnt: the mean taken away, whitened, or by LDA."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import numpy as np
import scipy.linalg

from eval.embeddings import Embeddings
from eval.scoring.base import Learns
from eval.scoring.dot import DotScorer, Represented
from eval.scoring.training import (
    mean_of,
    require_speakers,
    require_utterances,
    scatter,
    usable,
    utterance_vectors,
)
from eval.scoring.unit import unit_means
from models.options import Within
from shard_tools.arrays import Float32Array, Float64Array, FloatArray, Int64Array
from shard_tools.errors import UserError

MOST = 65536  # dimensions


def trained(mean: Float64Array | None, dimensions: int, scoring: str) -> Float64Array:
    """The mean of a scorer that has been fitted on so many dimensions; otherwise a UserError."""
    if mean is None:
        raise UserError(f"scoring {scoring} learns from a training set, and none was given")
    if len(mean) != dimensions:
        raise UserError(
            f"scoring {scoring} has learnt from embeddings of {len(mean)} dimensions, and these have"
            f" {dimensions}; both must be one checkpoint's"
        )
    return mean


class Projected(DotScorer):
    """(x − mean) @ matrix of each crop; then the mean cosine over all pairs of crops, within 1e-6 of float64.

    It is learnt from the mean over crops of each utterance.
    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self.mean: Float64Array | None = None
        self.matrix: Float64Array | None = None  # (D, E); None: as it is

    def fit(self, embeddings: Embeddings, labels: Int64Array | None = None) -> Projected:
        self.mean, self.matrix = self.learn(embeddings, labels)
        return self

    @abstractmethod
    def learn(
        self, embeddings: Embeddings, labels: Int64Array | None
    ) -> tuple[Float64Array, Float64Array | None]:
        """mean and matrix."""

    def size(self, dimensions: int) -> int:
        trained(self.mean, dimensions, self.name)
        return dimensions if self.matrix is None else self.matrix.shape[1]

    def represent(self, vectors: FloatArray) -> Represented:
        around: FloatArray = vectors - trained(self.mean, vectors.shape[2], self.name)  # float64
        if self.matrix is not None:
            around = around @ self.matrix
        made: Float32Array = unit_means(around).astype(np.float32)
        return Represented(made, np.ones(len(vectors)), np.zeros(len(vectors)))


class Centred(Projected):
    """The training set's mean is taken away, as wespeaker's `cal_mean` does."""

    name = "centred"
    learns: ClassVar[Learns] = "utterances"

    def learn(
        self, embeddings: Embeddings, labels: Int64Array | None
    ) -> tuple[Float64Array, Float64Array | None]:
        require_utterances(embeddings, self.name)
        return mean_of(utterance_vectors(embeddings)), None


class Whitening(Projected):
    """The training set's mean is taken away, and its covariance becomes the identity."""

    name = "whitening"
    learns: ClassVar[Learns] = "utterances"

    def __init__(self, *, shrinkage: Annotated[float, Within(0, 1)] = 0.0) -> None:
        super().__init__()
        self.shrinkage = shrinkage

    def learn(
        self, embeddings: Embeddings, labels: Int64Array | None
    ) -> tuple[Float64Array, Float64Array | None]:
        require_utterances(embeddings, self.name)
        mean = mean_of(utterance_vectors(embeddings))
        one = np.zeros(len(embeddings), np.int64)  # speakers do not matter
        total = scatter(utterance_vectors(embeddings), one, mean).total
        covariance = usable(total / len(embeddings), "total", self.name, self.shrinkage)
        values, axes = np.linalg.eigh(covariance)
        return mean, axes / np.sqrt(values)


class LDA(Projected):
    """Linear discriminant analysis, then cosine: axes on which speakers differ most, in units of within.

    dimension: of the result; 0 is as many as there can be, min(D, speakers − 1).
    shrinkage: of the covariance within speakers towards a multiple of the identity, from 0 to 1.
    Source: Fisher, The use of multiple measurements in taxonomic problems, 1936; with the length
    brought to 1 as in Garcia-Romero and Espy-Wilson, Interspeech 2011.
    """

    name = "lda"
    learns: ClassVar[Learns] = "speakers"

    def __init__(
        self,
        *,
        dimension: Annotated[int, Within(0, MOST)] = 0,
        shrinkage: Annotated[float, Within(0, 1)] = 0.0,
    ) -> None:
        super().__init__()
        self.dimension = dimension
        self.shrinkage = shrinkage

    def learn(
        self, embeddings: Embeddings, labels: Int64Array | None
    ) -> tuple[Float64Array, Float64Array | None]:
        numbers = require_speakers(embeddings, labels, self.name)
        return lda(embeddings, numbers, self.dimension, self.shrinkage, self.name)


def lda(
    embeddings: Embeddings, numbers: Int64Array, dimension: int, shrinkage: float, scoring: str
) -> tuple[Float64Array, Float64Array]:
    """The mean (D,) and the axes (D, dimension) that make the covariance within the identity."""
    found = scatter(utterance_vectors(embeddings), numbers, mean_of(utterance_vectors(embeddings)))
    speakers, size = found.sums.shape
    most = min(size, speakers - 1)
    if dimension > most:
        raise UserError(
            f"scoring {scoring}: dimension is {dimension}; {speakers} speakers and {size} dimensions allow"
            f" {most} at most"
        )
    within = usable(found.within / len(numbers), "within-speaker", scoring, shrinkage)
    _, axes = scipy.linalg.eigh(found.between / len(numbers), within)  # lowest first
    return found.mean, axes[:, ::-1][:, : dimension or most]
