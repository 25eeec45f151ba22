"""Spreading the speakers' groups of utterances over batches of distinct speakers, losing as few as possible.

With g[s] groups of speaker s and no speaker twice in a batch, T batches of P can
be filled exactly when sum(min(g, T)) >= P*T. The largest such T is used. The
batches are then drawn one after another: every group has a random time, a batch
takes the P speakers whose next group comes first, and those go before all others
who have as many groups left as there are batches to come. That never gets stuck:
with r the groups left, clipped to the t batches left, sum(r) >= P*t. If P speakers
or more have r == t, those alone can fill what follows; if fewer, all of them are
taken, and the clipped sum falls by P to at least P*(t-1).

With several lanes, each of which offers groups of its own and fills its share of
every batch, the same is done lane after lane, past the speakers that the batch
already has. That is not always as late an end as the best assignment would reach.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shard_tools.arrays import Int32Array, Int64Array

_SPEAKER_BITS = np.uint64(24)
_SPEAKER_MASK = np.uint64((1 << 24) - 1)
_LATEST = np.uint64((1 << 40) - 1)
_NEVER = _LATEST << _SPEAKER_BITS


def batches_that_fit(groups: Int64Array, speakers_per_batch: int) -> int:
    """The largest T with sum(min(groups, T)) >= speakers_per_batch * T; groups: int64 (speakers,).

    sum(min(groups, T)) - P*T is concave in T and 0 at 0, so bisection finds it.
    """
    low, high = 0, int(groups.sum()) // speakers_per_batch
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(groups, middle).sum()) >= speakers_per_batch * middle:
            low = middle
        else:
            high = middle - 1
    return low


def most_batches(groups: Int64Array, share: int) -> int:
    """No more batches than this can be filled: each lane's groups must suffice, and all lanes' together."""
    each = [batches_that_fit(lane, share) for lane in groups]
    return min(*each, batches_that_fit(groups.sum(axis=0), share * len(groups)))


def spread(groups: Int64Array, share: int, bits: npt.NDArray[np.uint64], turn: int = 0) -> Int32Array:
    """The speakers of every batch, lane by lane; int32 (batches, lanes, share), all different within a batch.

    groups: int64 (lanes, speakers), how many groups each lane offers of each speaker, below 2**24
    cells in all; share: speakers that a lane gives to a batch; bits: uint64 (groups.sum(),), random;
    turn: the lane that chooses first in the first batch (they take turns).
    """
    lanes, speakers = groups.shape
    batches = most_batches(groups, share)
    left = np.minimum(groups, batches)
    together = left.sum(axis=0)
    times, position = _in_time(groups, bits)

    # `ahead` holds the time of the next group above the speaker's own number: comparing whole
    # words then never meets a tie, whose order numpy leaves to the CPU.
    number = np.arange(speakers, dtype=np.uint64)
    ahead = (times[np.where(left > 0, position, -1)] << _SPEAKER_BITS) | number

    rows = np.empty((batches, lanes, share), dtype=np.int64)
    for row in range(batches):
        must = np.flatnonzero(together >= batches - row)
        for step in range(lanes):
            lane = (turn + row + step) % lanes
            candidates = ahead[lane].copy()
            if len(must):
                urgent = must[left[lane, must] > 0]
                candidates[urgent] = number[urgent]
            for before in range(step):
                taken = rows[row, (turn + row + before) % lanes]
                candidates[taken] = _NEVER
            first = np.partition(candidates, share - 1)[:share]
            if bool((first >= _NEVER).any()):
                return rows[:row].astype(np.int32)
            rows[row, lane] = np.sort((first & _SPEAKER_MASK).astype(np.int64))
        for lane in range(lanes):
            chosen = rows[row, lane]
            left[lane, chosen] -= 1
            together[chosen] -= 1
            position[lane, chosen] += 1
            following = np.where(left[lane, chosen] > 0, position[lane, chosen], -1)
            ahead[lane, chosen] = (times[following] << _SPEAKER_BITS) | number[chosen]
    return rows.astype(np.int32)


def _in_time(groups: Int64Array, bits: npt.NDArray[np.uint64]) -> tuple[npt.NDArray[np.uint64], Int64Array]:
    """The groups' 40-bit times, ascending within each (lane, speaker), and where each such run begins.

    The last element of the times is _LATEST: index -1 means "no group".
    """
    count = groups.reshape(-1)
    cell = np.repeat(np.arange(len(count), dtype=np.uint64), count)
    # Not 0, which is the time of those who must go first.
    drawn = np.clip(bits >> _SPEAKER_BITS, np.uint64(1), _LATEST - np.uint64(1))
    keys = np.sort((cell << np.uint64(40)) | drawn)
    times = np.append(keys & _LATEST, _LATEST)
    first = (np.cumsum(count) - count).reshape(groups.shape)
    return times, first
