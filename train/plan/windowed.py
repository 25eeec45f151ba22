"""Planning a window of shards: what is read together lies together; nothing grows with the whole set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools import philox
from shard_tools.arrays import Int32Array, Int64Array
from shard_tools.dataset.layout import occurrence
from train.plan.base import Account, BatchSpec, Taken
from train.plan.groups import groups_per_speaker, shuffle_within_speakers
from train.plan.spread import most_batches, spread


@dataclass(frozen=True, eq=False)
class WindowUtterances:
    """What lies in a window's shards, lane after lane, and in a lane in the shards' order; (N,) each.

    number: int64, row of the catalogue; label: int32; length: int64, audio samples; lane: int64;
    turn: which of its speaker's utterances it is, from 0, and total: how many the speaker has in all.
    """

    number: Int64Array
    label: Int32Array
    length: Int64Array
    lane: Int64Array
    turn: Int64Array
    total: Int64Array


@dataclass(frozen=True, eq=False)
class PlannedWindow:
    """A window's batches, lane after lane in each; (batches, P*K)."""

    utterance: Int64Array
    label: Int32Array
    length: Int64Array
    account: Account

    def __len__(self) -> int:
        return len(self.utterance)


def plan_window(
    found: WindowUtterances,
    spec: BatchSpec,
    lanes: int,
    epoch: int,
    window: int,
    taken: Taken | None = None,
    begin: int = 0,
) -> PlannedWindow:
    """The batches of one window of an epoch; each of `lanes` lanes, which divide P, gives its share of each.

    The order is random and no batch has a speaker twice, over all lanes, or one who is taken at its step,
    the first of which is `begin`. A function of its arguments alone.
    """
    within = _within_cap(found, spec, epoch)
    number, label, length, lane = (
        column[within] for column in (found.number, found.label, found.length, found.lane)
    )
    present, speaker = np.unique(label, return_inverse=True)
    cell = lane * len(present) + speaker
    counts = np.bincount(cell, minlength=lanes * len(present)).astype(np.int64)

    groups = groups_per_speaker(counts, spec.utterances_per_speaker, None).reshape(lanes, -1)
    bits = philox.raw(spec.plan_seed, "group time", epoch, int(groups.sum()), window)
    share = spec.speakers // lanes
    barred = None
    if taken is not None and (most := most_batches(groups, share)):
        barred = _among(present, taken(begin, begin + most))
    chosen = spread(groups, share, bits, window, barred)

    own = shuffle_within_speakers(cell, counts, spec.plan_seed, epoch, window)
    cells = (np.arange(lanes)[:, None] * len(present) + chosen).reshape(-1)
    first = own.first[cells] + occurrence(cells, len(counts)) * spec.utterances_per_speaker
    rows = own.order[first[:, None] + np.arange(spec.utterances_per_speaker)]
    rows = rows.reshape(len(chosen), spec.size)
    total, grouped = len(found.number), int(groups.sum()) * spec.utterances_per_speaker
    account = Account(total, rows.size, total - len(number), len(number) - grouped, grouped - rows.size)
    return PlannedWindow(number[rows], label[rows], length[rows], account)


def _among(present: npt.NDArray[Any], labels: Int64Array) -> Int64Array:
    """Where labels stand among the ascending ones `present`, -1 for those that are not there."""
    place = np.minimum(np.searchsorted(present, labels), len(present) - 1)
    return np.where(present[place] == labels, place, -1)


def _within_cap(found: WindowUtterances, spec: BatchSpec, epoch: int) -> npt.NDArray[np.bool_]:
    """Which utterances max_utterances_per_speaker lets into this epoch.

    Of a speaker with more, so many that follow one another in the shards, from a place drawn
    anew every epoch: a window can tell without knowing the others.
    """
    cap = spec.max_utterances_per_speaker
    if cap is None:
        return np.ones(len(found.number), dtype=np.bool_)
    begin = philox.integers(spec.plan_seed, "capped range", epoch, found.label, found.total)
    return (found.turn - begin) % found.total < cap
