"""Trials in batches in which one utterance meets several: the first is fetched once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shard_tools.arrays import Int64Array

_SIZES = (8, 4, 2, 1)  # a matrix of 8 utterances' crops is large enough for the processor's best speed


class Batch(NamedTuple):
    """n utterances, each with g others. one: int64 (n,); others, trials (their numbers): int64 (n, g)."""

    one: Int64Array
    others: Int64Array
    trials: Int64Array


def batches(left: Int64Array, right: Int64Array, most: int) -> Iterator[Batch]:
    """Every trial once, left and right (T,) being the rows of its utterances; at most `most` trials a batch.

    The side with fewer different utterances is `one`: scores must not depend on the side.
    """
    if not len(left):
        return
    if np.count_nonzero(np.bincount(right)) < np.count_nonzero(np.bincount(left)):
        left, right = right, left
    order = np.argsort(left, kind="stable")
    counts = np.bincount(left)
    utterances = np.flatnonzero(counts)
    rest = counts[utterances]  # of each utterance's trials
    begin = np.cumsum(rest) - rest  # where they begin in `order`
    for size in _SIZES:
        groups = rest // size
        # An utterance with several groups of this size: their numbers 0, 1, … within it.
        number = np.arange(groups.sum()) - np.repeat(np.cumsum(groups) - groups, groups)
        one = np.repeat(utterances, groups)
        start = np.repeat(begin, groups) + number * size
        each = max(1, most // size)
        for first in range(0, len(one), each):
            some = slice(first, first + each)
            trials = order[start[some, None] + np.arange(size)]
            yield Batch(one[some], right[trials], trials)
        begin = begin + groups * size
        rest = rest - groups * size
