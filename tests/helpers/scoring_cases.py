"""Embeddings and trials by number, for tests of scoring."""

from __future__ import annotations

import numpy as np

from eval.embeddings import Embeddings
from eval.trials import Trials


def embeddings_of(vectors, prefix="u"):
    """Of vectors (n, D) or (n, crops, D); utterances u0, u1, …"""
    vectors = np.asarray(vectors, np.float32)
    if vectors.ndim == 2:
        vectors = vectors[:, None]
    crops = vectors.shape[1] if vectors.shape[1] > 1 else 0
    return Embeddings(tuple(f"{prefix}{row}" for row in range(len(vectors))), vectors, crops, 400)


def trials_of(left, right, names, label=None):
    """Of rows of `names`."""
    label = np.zeros(len(left), np.int8) if label is None else label
    return Trials(label, np.array(left), np.array(right), list(names), "t", "")


def speakers(count=30, each=8, dimensions=5, seed=0):
    """Vectors (count * each, dimensions), clearly of `count` speakers, and their labels."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), each)
    own = random.standard_normal((count, dimensions)) * np.linspace(0.5, 2.0, dimensions)
    mixing = random.standard_normal((dimensions, dimensions))
    noise = random.standard_normal((len(labels), dimensions)) @ mixing
    return (own[labels] + 0.4 * noise + 1.0).astype(np.float32), labels
