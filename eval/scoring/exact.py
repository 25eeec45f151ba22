"""Distances of crops in float64, for those few that float32 products cannot tell from each other."""

from __future__ import annotations

import numpy as np

from eval.scoring.unit import units
from shard_tools.arrays import Float32Array, Float64Array, Int64Array

_BYTES = 8 << 20  # of one side of a chunk of trials


def mean_distances(
    left: Float32Array, left_rows: Int64Array, right: Float32Array, right_rows: Int64Array
) -> Float64Array:
    """The mean distance of all unit crops of left[left_rows] to all of right[right_rows]: (T,)."""
    found = np.empty(len(left_rows), np.float64)
    size = max(1, _BYTES // (8 * max(int(np.prod(side.shape[1:])) for side in (left, right))))
    for first in range(0, len(found), size):
        some = slice(first, first + size)
        ours, theirs = units(left[left_rows[some]]), units(right[right_rows[some]])
        products = np.matmul(ours, theirs.transpose(0, 2, 1))
        own = np.einsum("tcd,tcd->tc", ours, ours)[:, :, None]
        squares = own + np.einsum("tcd,tcd->tc", theirs, theirs)[:, None] - 2.0 * products
        found[some] = np.sqrt(np.maximum(squares, 0.0)).mean(axis=(1, 2))
    return found
