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

So it is where batches have speakers from elsewhere (`taken`), as when datasets share some. A group can then
be kept out by one batch alone: those go first who have as many groups left as batches that could take them.
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


def spread(
    groups: Int64Array,
    share: int,
    bits: npt.NDArray[np.uint64],
    turn: int = 0,
    taken: Int64Array | None = None,
    *,
    again: bool = False,
) -> Int32Array:
    """The speakers of every batch, lane by lane; int32 (batches, lanes, share), all different within a batch.

    groups: int64 (lanes, speakers), how many groups each lane offers of each speaker, below 2**24
    cells in all; share: speakers that a lane gives to a batch; bits: uint64 (groups.sum(),), random;
    turn: the lane that chooses first in the first batch (they take turns); taken: int64 (batches or
    more, any), speakers that each batch has from elsewhere, -1 for none.

    The batches end before one that cannot be filled. With `again`, for one lane, it takes speakers that
    earlier batches give up for others; or, where there are none, some who have no group left, a time
    more: there must be enough whom no batch has from elsewhere.
    """
    lanes, speakers = groups.shape
    batches = most_batches(groups, share)
    absent, to_come = _elsewhere(taken, batches, speakers)
    left = np.minimum(groups, batches)
    together = left.sum(axis=0)
    times, position = _in_time(groups, bits)

    # `ahead` holds the time of the next group above the speaker's own number: comparing whole
    # words then never meets a tie, whose order numpy leaves to the CPU.
    number = np.arange(speakers, dtype=np.uint64)
    ahead = (times[np.where(left > 0, position, -1)] << _SPEAKER_BITS) | number

    rows = np.empty((batches, lanes, share), dtype=np.int64)
    for row in range(batches):
        must = np.flatnonzero(together >= batches - row - to_come)
        if len(absent[row]):
            to_come[absent[row]] -= 1
        takings = list[tuple[int, Int64Array]]()
        for step in range(lanes):
            lane = (turn + row + step) % lanes
            candidates = ahead[lane].copy()
            if len(must):
                urgent = must[left[lane, must] > 0]
                candidates[urgent] = number[urgent]
            here = [rows[row, (turn + row + before) % lanes] for before in range(step)]
            for others in (absent[row], *here) if len(absent[row]) else here:
                candidates[others] = _NEVER
            first = np.partition(candidates, share - 1)[:share]
            lacking = bool((first >= _NEVER).any())
            if lacking and (not again or taken is None):
                return rows[:row].astype(np.int32)
            chosen = ((first[first < _NEVER] if lacking else first) & _SPEAKER_MASK).astype(np.int64)
            taking = [(lane, chosen)]
            if lacking and taken is not None:
                given, instead = _exchanged(rows[:row, 0], taken, chosen, absent[row], left[0])
                chosen = _filled(np.concatenate([chosen, given]), share, groups[0], absent[row])
                taking += [(lane, instead[place : place + 1]) for place in range(len(instead))]
            rows[row, lane] = np.sort(chosen)
            takings += taking
        for lane, chosen in takings:
            left[lane, chosen] -= 1
            together[chosen] -= 1
            position[lane, chosen] += 1
            following = np.where(left[lane, chosen] > 0, position[lane, chosen], -1)
            ahead[lane, chosen] = (times[following] << _SPEAKER_BITS) | number[chosen]
    return rows.astype(np.int32)


def _elsewhere(taken: Int64Array | None, batches: int, speakers: int) -> tuple[list[Int64Array], Int64Array]:
    """Whom each batch has from elsewhere, once each; and how many batches have whom, (speakers,) or (1,)."""
    if taken is None:
        return [np.empty(0, np.int64)] * batches, np.zeros(1, np.int64)
    each = [np.unique(row[row >= 0]) for row in taken[:batches]]
    return each, np.bincount(np.concatenate([np.empty(0, np.int64), *each]), minlength=speakers)


def _exchanged(
    rows: Int64Array, taken: Int64Array, found: Int64Array, barred: Int64Array, left: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """Speakers for a batch that has only `found` of its share, and those who take their places before.

    rows: (batches before, share), which change; taken: whom those have from elsewhere; barred: who must
    not be in the batch; left: int64 (speakers,), groups.
    """
    given, instead = list[int](), list[int]()
    outside = np.ones(len(left), dtype=np.bool_)  # those who are not in the batch and may be
    outside[found] = outside[barred] = False
    spare = left.copy()
    spare[found] -= 1
    for speaker in np.flatnonzero(spare > 0).tolist():
        can = ~(rows == speaker).any(axis=1) & ~(taken[: len(rows)] == speaker).any(axis=1)
        for row in np.flatnonzero(can)[::-1].tolist():
            if not spare[speaker] or len(found) + len(given) == rows.shape[1]:
                break
            free = rows[row][outside[rows[row]]]
            if len(free):
                rows[row] = np.sort(np.where(rows[row] == free[0], speaker, rows[row]))
                given.append(int(free[0]))
                instead.append(speaker)
                outside[free[0]] = False
                spare[speaker] -= 1
    return np.array(given, np.int64), np.array(instead, np.int64)


def _filled(found: Int64Array, share: int, groups: Int64Array, barred: Int64Array) -> Int64Array:
    """`found` and others who are not barred, `share` in all: of the others those who have most groups."""
    free = groups > 0
    free[barred] = free[found] = False
    others = np.flatnonzero(free)
    others = others[np.argsort(-groups[others], kind="stable")][: share - len(found)]
    assert len(found) + len(others) == share, "a lane has too few speakers whom no batch has from elsewhere"
    return np.concatenate([found, others])


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
