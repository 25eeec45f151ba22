"""Which utterance goes to which shard, a pure function of the list and three options; and who comes where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools import philox
from shard_tools.arrays import Int32Array, Int64Array


def shard_rows(labels: Int64Array, *, utterances_per_shard: int, group: int, seed: int) -> list[Int64Array]:
    """Split utterances with these labels (N,) into shards: for each, its rows in its order, int64.

    Each speaker's utterances are cut, in list order, into groups of up to `group`.
    The groups are shuffled and dealt to ceil(N / utterances_per_shard) shards of
    equal size give or take a group, and the samples of a shard are shuffled. So
    every shard is a fair sample of the speakers, a reader needs no large shuffle
    buffer, and a window of shards still holds several utterances of a speaker.
    """
    count = len(labels)
    group = min(group, utterances_per_shard)
    by_speaker = np.argsort(labels, kind="stable")
    ordered = labels[by_speaker]
    # rank of each utterance among its speaker's, then its group's number over all speakers
    speaker_starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    speaker_sizes = np.diff(speaker_starts, append=count)
    rank = np.arange(count) - np.repeat(speaker_starts, speaker_sizes)
    group_starts = np.flatnonzero(rank % group == 0)
    group_sizes = np.diff(group_starts, append=count)

    shuffled = philox.permutation(seed, "pack groups", 0, len(group_starts))
    before = np.cumsum(group_sizes[shuffled]) - group_sizes[shuffled]
    shards = -(-count // utterances_per_shard)
    shard_of_group = np.empty(len(group_starts), np.int64)
    shard_of_group[shuffled] = before * shards // count
    # A shard that no group begins in would be empty: number the others without gaps.
    shard_of_group = np.unique(shard_of_group, return_inverse=True)[1]

    shard_of_row = np.empty(count, np.int64)
    shard_of_row[by_speaker] = np.repeat(shard_of_group, group_sizes)
    in_order = np.argsort(shard_of_row, kind="stable")
    ends = np.cumsum(np.bincount(shard_of_row))
    members = np.split(in_order, ends[:-1])
    return [rows[philox.permutation(seed, "pack samples", n, len(rows))] for n, rows in enumerate(members)]


@dataclass(frozen=True, eq=False)
class Places:
    """Where utterances stand among their speaker's own, over all shards.

    turn: int32 (N,), how many of its speaker's come before; total: int32 (N,), how many there are;
    next_shard: int32 (N,), the next shard, after the last one the first again, that has some of
    its speaker; its own where no other has.
    """

    turn: Int32Array
    total: Int32Array
    next_shard: Int32Array


def places(labels: npt.NDArray[np.integer], shard: npt.NDArray[np.integer]) -> Places:
    """labels, shard: (N,) of utterances in the shards' order, so that `shard` ascends."""
    labels = np.asarray(labels, np.int64)
    speakers = int(labels.max()) + 1 if len(labels) else 0
    order = np.argsort(labels, kind="stable")
    by_speaker, shard_of = labels[order], np.asarray(shard, np.int32)[order]
    # Runs of one speaker's utterances in one shard; each speaker's runs follow one another.
    new_speaker = np.diff(by_speaker, prepend=-1) != 0
    starts = np.flatnonzero(new_speaker | (np.diff(shard_of, prepend=-1) != 0))
    opens = np.flatnonzero(new_speaker[starts])
    following = np.arange(1, len(starts) + 1)
    following[np.append(opens[1:], len(starts))[: len(opens)] - 1] = opens
    next_shard = np.empty(len(labels), np.int32)
    next_shard[order] = np.repeat(shard_of[starts[following]], np.diff(starts, append=len(labels)))
    total = np.bincount(labels, minlength=speakers)[labels]
    return Places(occurrence(labels, speakers).astype(np.int32), total.astype(np.int32), next_shard)


def occurrence(values: npt.NDArray[np.integer], below: int) -> Int64Array:
    """How many equal values stand before each one: [5, 3, 5, 5] → [0, 0, 1, 2]; values in [0, below)."""
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values, minlength=below)
    first = np.cumsum(counts) - counts
    turn = np.empty(len(values), dtype=np.int64)
    turn[order] = np.arange(len(values)) - first[values[order]]
    return turn
