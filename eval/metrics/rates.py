"""The operating points of a verification test, from scores and labels alone.

A threshold t accepts the trials with score >= t. Tied scores can only be
accepted together, so there is one operating point per distinct score, and one
more that rejects everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Float64Array, Int64Array


@dataclass(frozen=True, eq=False)
class ErrorRates:
    """All operating points of a test, by rising threshold; three float64 arrays (P,).

    `thresholds` are the distinct scores and, last, +inf (which rejects everything);
    `false_accept` falls from 1 to 0 and `false_reject` rises from 0 to 1, both as
    fractions of the non-target and of the target trials, of which there are so many.
    """

    thresholds: Float64Array
    false_accept: Float64Array
    false_reject: Float64Array
    targets: int
    nontargets: int

    def at(self, threshold: float) -> tuple[float, float]:
        """(false accept, false reject) as fractions when scores >= `threshold` are accepted."""
        point = int(np.searchsorted(self.thresholds, threshold, side="left"))
        return float(self.false_accept[point]), float(self.false_reject[point])

    def counts(self) -> tuple[Int64Array, Int64Array]:
        """(target, non-target) trials that each threshold rejects, int64 (P,)."""
        targets = np.rint(self.false_reject * self.targets).astype(np.int64)
        nontargets = np.rint((1.0 - self.false_accept) * self.nontargets).astype(np.int64)
        return targets, nontargets

    def among(self, points: Int64Array) -> ErrorRates:
        """Only these operating points, by rising number."""
        return ErrorRates(
            self.thresholds[points],
            self.false_accept[points],
            self.false_reject[points],
            self.targets,
            self.nontargets,
        )


def error_rates(scores: npt.ArrayLike, labels: npt.ArrayLike) -> ErrorRates:
    """Every operating point of `scores` (T,) with `labels` (T,), 1 for target trials and 0 for the others.

    Raises ValueError for arrays that do not match, labels other than 0 and 1, only
    one class of trials, or scores that are not finite. One sort, so a million
    trials take a fraction of a second.
    """
    score, label = checked(scores, labels)
    targets = int(np.count_nonzero(label))
    nontargets = len(label) - targets
    order = np.argsort(score, kind="stable")
    score = score[order]
    first = first_of_ties(score)
    below = np.concatenate((first, [len(score)]))  # trials that each threshold rejects
    targets_below = np.concatenate(([0], np.cumsum(label[order])))[below]
    nontargets_below = below - targets_below
    return ErrorRates(
        thresholds=np.concatenate((score[first], [np.inf])),
        false_accept=(nontargets - nontargets_below) / nontargets,
        false_reject=targets_below / targets,
        targets=targets,
        nontargets=nontargets,
    )


def checked(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Float64Array, Int64Array]:
    """Scores float64 (T,) and labels int64 (T,), 0 and 1, both there; ValueError as in error_rates."""
    score = np.asarray(scores, dtype=np.float64)
    label = np.asarray(labels)
    if score.ndim != 1 or score.shape != label.shape:
        raise ValueError(f"scores {score.shape} and labels {label.shape} must be two vectors of one length")
    if not np.isfinite(score).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(score))} of {len(score)} scores are not finite")
    if not np.isin(label, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    targets = int(np.count_nonzero(label))
    if targets in (0, len(label)):
        raise ValueError(
            f"error rates need both classes; got {targets} target and {len(label) - targets} other trials"
        )
    return score, label.astype(np.int64)


def first_of_ties(score: Float64Array) -> Int64Array:
    """Where each distinct value of the sorted `score` (T,) begins, int64 (P,)."""
    return np.flatnonzero(np.concatenate(([True], score[1:] != score[:-1])))
