"""The map of utterances: their embeddings, of length 1, along the two axes on which they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.embeddings import Embeddings
from eval.speakers import numbered
from shard_tools.arrays import Float64Array, Int64Array

MOST_POINTS = 2000
MOST_COLOURS = 10  # speakers that are told apart


@dataclass(frozen=True, eq=False)
class Projection:
    """points: float64 (n, 2); group: int64 (n,), place among `names`, or -1 for the other speakers;
    names: the speakers with most utterances; explained: of the variance, each axis's part."""

    points: Float64Array
    group: Int64Array
    names: tuple[str, ...]
    explained: tuple[float, float]


def project(
    embeddings: Embeddings, names: Sequence[str], speakers: Sequence[str] | None
) -> Projection | None:
    """Of `names` up to MOST_POINTS, evenly taken; None for fewer than 3, or embeddings of size 1."""
    chosen = np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_POINTS)).astype(np.int64))
    vectors = embeddings.vectors[embeddings.rows([names[place] for place in chosen])].astype(np.float64)
    if len(chosen) < 3 or vectors.shape[2] < 2:
        return None
    units = vectors / np.maximum(np.linalg.norm(vectors, axis=2, keepdims=True), 1e-12)
    points = units.mean(axis=1)
    points -= points.mean(axis=0)
    _, values, axes = np.linalg.svd(points, full_matrices=False)
    axes = axes * np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1, 1)[:, None]
    share = values**2 / max(float((values**2).sum()), 1e-30)
    group, few = np.full(len(chosen), -1, np.int64), ()
    if speakers is not None:
        own = [speakers[place] for place in chosen]
        number, known = numbered(own), list(dict.fromkeys(own))
        most = np.argsort(-np.bincount(number), kind="stable")[:MOST_COLOURS]
        for place, each in enumerate(most.tolist()):
            group[number == each] = place
        few = tuple(known[each] for each in most.tolist())
    return Projection(points @ axes[:2].T, group, few, (float(share[0]), float(share[1])))
