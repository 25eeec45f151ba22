"""Embeddings of length 1, made from float32 ones without a copy of all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from eval.embeddings import Embeddings
from shard_tools.arrays import Float32Array, Float64Array, FloatArray, Int64Array
from shard_tools.errors import UserError

SHORTEST = 1e-12  # a shorter embedding is divided by this, so that one of zeros stays one
_PLAIN = (1e-24, 1e24)  # squares of lengths that float32 has room for
_SHORT_SUM = 64  # numbers
_BLOCK = 64  # utterances: of 10 crops and 512 dimensions 1.3 MB, which stays in a cache


def blocks(
    vectors: Float32Array, rows: Int64Array, size: int = _BLOCK
) -> Iterator[tuple[slice, Float32Array]]:
    """(which of `rows`, their vectors), without copies where rows are 0, 1, …"""
    plain = len(rows) == len(vectors) and np.array_equal(rows, np.arange(len(rows)))
    for first in range(0, len(rows), size):
        some = slice(first, min(first + size, len(rows)))
        yield some, vectors[some] if plain else vectors[rows[some]]


def squares(vectors: FloatArray) -> tuple[Float64Array, np.ndarray]:
    """Squared lengths (n, crops), and which utterances (n,) have some that float32 has no room for.

    Of float32 vectors to 1e-7 of themselves: short sums are float32, their sum is float64.
    """
    size = vectors.shape[2]
    part = math.gcd(size, _SHORT_SUM)
    if vectors.dtype == np.float64 or part < 16:
        exact = vectors.astype(np.float64, copy=False)
        found = np.einsum("ncd,ncd->nc", exact, exact)
    else:
        parts = vectors.reshape(*vectors.shape[:2], size // part, part)
        found = np.einsum("nckd,nckd->nck", parts, parts).sum(axis=2, dtype=np.float64)
    plain = (found > _PLAIN[0]) & (found < _PLAIN[1])  # false for NaN
    return found, ~plain.all(axis=1)


def units(vectors: FloatArray) -> Float64Array:
    """Divided by their lengths, float64 (n, crops, D)."""
    exact = vectors.astype(np.float64)
    # In two steps, as the square of a length may be beyond even float64.
    largest = np.abs(exact).max(axis=2, keepdims=True, initial=0.0)
    scale = np.where(largest > 1.0, largest, 1.0)
    exact /= scale
    length = np.sqrt(np.einsum("ncd,ncd->nc", exact, exact))[..., None]
    return exact / np.maximum(length, SHORTEST / scale)


def unit_means(vectors: FloatArray) -> FloatArray:
    """The mean over crops of unit vectors, (n, D), in the vectors' dtype."""
    found, unusual = squares(vectors)
    if unusual.any():
        return units(vectors).mean(axis=1).astype(vectors.dtype)
    weights = (1.0 / (np.sqrt(found) * vectors.shape[1])).astype(vectors.dtype, copy=False)
    means: FloatArray = np.matmul(weights[:, None, :], vectors)[:, 0]
    return means


def require_finite(embeddings: Embeddings, rows: Int64Array, vectors: FloatArray) -> None:
    """UserError with the utterance's name unless all `vectors`, made from these rows, are finite."""
    if np.isfinite(vectors).all():
        return
    bad = ~np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
    name = embeddings.names[int(rows[int(np.argmax(bad))])]
    raise UserError(
        f"the embedding of {name!r} holds numbers that are not finite (NaN or infinity), as of"
        f" {int(bad.sum())} utterance(s) in all; check the audio and the checkpoint, and embed again"
    )


def require_same_dimensions(embeddings: Embeddings, others: Embeddings) -> None:
    """UserError for embeddings of two networks."""
    ours, theirs = embeddings.vectors.shape[2], others.vectors.shape[2]
    if ours != theirs:
        raise UserError(
            f"embeddings of {ours} dimensions cannot be compared with others of {theirs}; embed both with one"
            " checkpoint"
        )
