"""Spreading the speakers' groups over batches of P distinct speakers, losing as few as possible.

With g[s] groups of speaker s and no speaker twice in a batch, T batches of P can
be filled exactly when sum(min(g, T)) >= P*T. The largest such T is used. The
batches are then drawn one after another: every group has a random time, a batch
takes the P speakers whose next group comes first, and a speaker who has as many
groups left as there are batches must be taken. That never gets stuck: before
each of the t remaining batches, r groups are left with sum(r) == P*t and
r <= t; at most P speakers have r == t, and at least P have r >= 1; taking one
group from P speakers, all of those with r == t among them, restores both for t-1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shard_tools import philox

_SPEAKER_BITS = np.uint64(24)
_SPEAKER_MASK = np.uint64((1 << 24) - 1)
_TIME_MASK = np.uint64((1 << 40) - 1)


def batches_that_fit(groups: npt.NDArray[np.int64], speakers_per_batch: int) -> int:
    """The largest T with sum(min(groups, T)) >= speakers_per_batch * T.

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


def spread(
    groups: npt.NDArray[np.int64], speakers_per_batch: int, seed: int, epoch: int
) -> npt.NDArray[np.int32]:
    """The speakers of every batch of an epoch; int32 (batches, speakers_per_batch), no row repeats a speaker.

    groups: int64 (speakers,), how many groups each speaker offers.
    """
    batches = batches_that_fit(groups, speakers_per_batch)
    left, times = _groups_in_time(np.minimum(groups, batches), speakers_per_batch * batches, seed, epoch)

    # `ahead[s]` holds the time of speaker s's next group above the speaker's own number:
    # comparing whole words then never meets a tie, whose order numpy leaves to the CPU.
    number = np.arange(len(groups), dtype=np.uint64)
    position = np.cumsum(left) - left
    end = position + left
    ahead = np.full(len(groups), _TIME_MASK << _SPEAKER_BITS, dtype=np.uint64) | number
    has = left > 0
    ahead[has] = (times[position[has]] << _SPEAKER_BITS) | number[has]
    times = np.append(times, _TIME_MASK)  # read, and not used, behind the last speaker's last group

    rows = np.empty((batches, speakers_per_batch), dtype=np.int64)
    for row in range(batches):
        must = np.flatnonzero(left == batches - row)
        candidates = ahead.copy()
        candidates[must] = number[must]
        first = np.partition(candidates, speakers_per_batch - 1)[:speakers_per_batch]
        chosen = np.sort((first & _SPEAKER_MASK).astype(np.int64))
        rows[row] = chosen
        left[chosen] -= 1
        position[chosen] += 1
        following = np.where(position[chosen] < end[chosen], times[position[chosen]], _TIME_MASK)
        ahead[chosen] = (following << _SPEAKER_BITS) | number[chosen]

    # The place in the row decides the rank, so it is drawn too.
    bits = philox.raw(seed, "place in batch", epoch, rows.size).reshape(rows.shape)
    shuffled = np.argsort(bits, axis=1, kind="stable")
    return np.take_along_axis(rows, shuffled, axis=1).astype(np.int32)


def _groups_in_time(
    groups: npt.NDArray[np.int64], wanted: int, seed: int, epoch: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Give every group a random time and drop the latest ones beyond `wanted`.

    Returns the groups left of each speaker (speakers,), and their 40-bit times, speaker
    after speaker, ascending within each.
    """
    speaker = np.repeat(np.arange(len(groups), dtype=np.uint64), groups)
    time = philox.raw(seed, "group time", epoch, len(speaker)) >> np.uint64(24)
    if len(speaker) > wanted:
        kept = np.sort(np.argsort(time, kind="stable")[:wanted])
        speaker, time = speaker[kept], time[kept]
    keys = np.sort((speaker << np.uint64(40)) | time)
    left = np.bincount(speaker.astype(np.int64), minlength=len(groups))
    return left.astype(np.int64), keys & _TIME_MASK
