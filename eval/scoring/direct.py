"""Scores of trials from embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from eval.trials import Trials

_CHUNK_BYTES = 64 << 20  # float64 copies of both sides of a chunk of trials


def score_trials(
    embeddings: npt.NDArray[np.float32], trials: Trials, method: str = "cosine", *, progress: bool = False
) -> npt.NDArray[np.float64]:
    """A score for each trial, float64 (T,), higher for more alike; `embeddings` are float32 (N, crops, D).

    Embeddings are brought to length 1 first. "cosine": the mean of the cosines of all
    crops of one utterance with all crops of the other. "euclidean": minus the mean
    of their distances, which is the VoxCeleb trainer's score. Raises ValueError for
    another method.
    """
    if method not in METHODS:
        raise ValueError(f"unknown scoring {method!r}; one of {', '.join(METHODS)}")
    units = _unit(embeddings)
    if method == "cosine":
        # The mean over pairs of dot products is the dot product of the means.
        units = units.mean(axis=1, keepdims=True, dtype=np.float64)
    scores = np.empty(len(trials), np.float64)
    chunk = max(1, _CHUNK_BYTES // (2 * 8 * int(np.prod(units.shape[1:]))))
    bar = tqdm(total=len(trials), desc="scoring", unit=" trials", unit_scale=True, disable=not progress)
    with bar:
        for first in range(0, len(trials), chunk):
            some = slice(first, first + chunk)
            left = units[trials.left[some]].astype(np.float64, copy=False)
            right = units[trials.right[some]].astype(np.float64, copy=False)
            scores[some] = METHODS[method](left, right)
            bar.update(len(left))
    return scores


def _unit(embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Embeddings divided by their length; an embedding of zeros stays one."""
    length = np.sqrt(np.einsum("ncd,ncd->nc", embeddings, embeddings, dtype=np.float64))
    return (embeddings / np.maximum(length, 1e-12)[..., None]).astype(np.float32)


def _cosine(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    scores: npt.NDArray[np.float64] = np.einsum("tcd,tcd->t", left, right)
    return scores


def _euclidean(left: npt.NDArray[np.float64], right: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    products = left @ right.transpose(0, 2, 1)  # (t, crops, crops)
    squares = (
        np.einsum("tcd,tcd->tc", left, left)[:, :, None] + np.einsum("tcd,tcd->tc", right, right)[:, None]
    )
    distances = np.sqrt(np.maximum(squares - 2.0 * products, 0.0))
    scores: npt.NDArray[np.float64] = -distances.mean(axis=(1, 2))
    return scores


METHODS: dict[str, Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], npt.NDArray[np.float64]]] = {
    "cosine": _cosine,
    "euclidean": _euclidean,
}
