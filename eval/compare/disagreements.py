"""The trials on which two systems disagree most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shard_tools.arrays import Float64Array, Int64Array

MOST = 20


@dataclass(frozen=True, eq=False)
class Disagreements:
    """Trials that one system accepts and the other rejects, each at its own EER threshold.

    only_first, only_second: how many of them the first, or the second, decides rightly; rows: int64, up to
    MOST of them, those first of which the scores lie furthest apart, each counted from its threshold in
    standard deviations of its system's scores.
    """

    only_first: int
    only_second: int
    rows: Int64Array


def disagreements(
    first: Float64Array, second: Float64Array, label: np.ndarray, thresholds: tuple[float, float]
) -> Disagreements:
    """first, second: scores (T,) of the same trials; label: (T,), 1 for target trials, 0 for others."""
    one, other = first >= thresholds[0], second >= thresholds[1]
    apart = np.flatnonzero(one != other)
    right = one[apart] == (label[apart] == 1)
    distance = np.abs(
        (first[apart] - thresholds[0]) / max(float(first.std()), 1e-30)
        - (second[apart] - thresholds[1]) / max(float(second.std()), 1e-30)
    )
    order = np.argsort(-distance, kind="stable")[:MOST]
    return Disagreements(int(right.sum()), int((~right).sum()), apart[order])
