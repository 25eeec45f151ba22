"""Scores from the embeddings of the two utterances alone."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eval.embeddings import Embeddings
from eval.trials import Trials
from shard_tools.arrays import Float32Array, Float64Array, Int64Array

_CHUNK_BYTES = 64 << 20  # float64 copies of both sides of a chunk of trials

Sides = Float64Array  # (trials, crops, D)


class _Direct(ABC):
    """Embeddings are brought to length 1 first; there is nothing to learn."""

    def fit(self, embeddings: Embeddings, labels: Int64Array | None = None) -> _Direct:
        return self

    def score(self, embeddings: Embeddings, trials: Trials, *, progress: bool = False) -> Float64Array:
        units = self.prepare(_unit(embeddings.vectors))
        rows = embeddings.rows(trials.names)
        scores = np.empty(len(trials), np.float64)
        chunk = max(1, _CHUNK_BYTES // (2 * 8 * int(np.prod(units.shape[1:]))))
        bar = tqdm(total=len(trials), desc="scoring", unit=" trials", unit_scale=True, disable=not progress)
        with bar:
            for first in range(0, len(trials), chunk):
                some = slice(first, first + chunk)
                left = units[rows[trials.left[some]]].astype(np.float64, copy=False)
                right = units[rows[trials.right[some]]].astype(np.float64, copy=False)
                scores[some] = self.compare(left, right)
                bar.update(len(left))
        return scores

    def prepare(self, units: Float32Array) -> npt.NDArray[np.floating]:
        """What is compared, made once of all utterances; (utterances, crops or fewer, D)."""
        return units

    @abstractmethod
    def compare(self, left: Sides, right: Sides) -> Float64Array:
        """(trials,)"""


class Cosine(_Direct):
    """The mean of the cosines of all crops of one utterance with all crops of the other."""

    def prepare(self, units: Float32Array) -> npt.NDArray[np.floating]:
        # The mean over pairs of dot products is the dot product of the means.
        return units.mean(axis=1, keepdims=True, dtype=np.float64)

    def compare(self, left: Sides, right: Sides) -> Float64Array:
        scores: Float64Array = np.einsum("tcd,tcd->t", left, right)
        return scores


class Euclidean(_Direct):
    """Minus the mean distance of all crops of one utterance to all of the other, as the VoxCeleb trainer."""

    def compare(self, left: Sides, right: Sides) -> Float64Array:
        products = left @ right.transpose(0, 2, 1)  # (t, crops, crops)
        squares = (
            np.einsum("tcd,tcd->tc", left, left)[:, :, None] + np.einsum("tcd,tcd->tc", right, right)[:, None]
        )
        distances = np.sqrt(np.maximum(squares - 2.0 * products, 0.0))
        scores: Float64Array = -distances.mean(axis=(1, 2))
        return scores


def _unit(vectors: Float32Array) -> Float32Array:
    """Embeddings divided by their length; an embedding of zeros stays one."""
    length = np.sqrt(np.einsum("ncd,ncd->nc", vectors, vectors, dtype=np.float64))
    return (vectors / np.maximum(length, 1e-12)[..., None]).astype(np.float32)
