"""The plan by windows of shards: what is read together lies together; nothing grows with the whole set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shard_tools import philox
from shard_tools.dataset.layout import occurrence
from train.plan.base import Account, Batch, BatchSpec, PlanError, check_enough_shards, check_lanes
from train.plan.groups import groups_per_speaker, shuffle_within_speakers
from train.plan.spread import spread
from train.plan.windows import Windows


class Columns(Protocol):
    """What a plan knows of utterances, shard by shard."""

    def prepare(self, shards: npt.NDArray[np.int64]) -> None:
        """Told all shards of a window before they are asked for, so that they can be read at once."""

    def of(
        self, shards: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The utterances of some shards, in order: catalogue row, label, audio frames; (m,) each."""

    def turns(self, utterances: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which of its speaker's utterances each one is (from 0), and how many the speaker has; (m,) each."""


@dataclass(frozen=True)
class Anchor:
    """A window of the run and the step that it begins with: enough to go on from without what came before."""

    epoch: int
    window: int
    step: int


@dataclass(frozen=True, eq=False)
class _Window:
    utterance: npt.NDArray[np.int64]  # (batches, P*K), lane after lane
    label: npt.NDArray[np.int32]  # (batches, P*K)
    frames: npt.NDArray[np.int64]  # (batches, P*K)
    account: Account


class WindowedPlan:
    """Global batches from windows of shards: each lane gives its share of every batch from its own shards.

    speakers: how many the manifest has; spec.speakers must be a multiple of the lanes.

    Within a window the order is random and no batch has a speaker twice, over all lanes. A window
    is planned from its own shards alone, so that any step can be reached from its window's Anchor
    at the cost of one window; `account` says what a window leaves out.
    """

    def __init__(
        self, columns: Columns, speakers: int, spec: BatchSpec, windows: Windows, anchor: Anchor | None = None
    ) -> None:
        if spec.speakers % windows.lanes:
            raise PlanError(
                f"batch.speakers {spec.speakers} is not a multiple of data.windows.lanes "
                f"{windows.lanes}: each lane gives the same number of speakers to a batch; change one of them"
            )
        check_enough_shards(windows.lanes, windows.shards)
        self.spec = spec
        self.speakers = speakers
        self.windows = windows
        self._columns = columns
        self._planned: tuple[tuple[int, int], _Window] | None = None
        self._anchors = [Anchor(0, 0, 0)] if anchor is None else [anchor]
        first = self._window(self._anchors[0].epoch, self._anchors[0].window)
        if not len(first.utterance):
            raise PlanError(
                f"a window of {windows.width} shards in each of {windows.lanes} lanes cannot fill one batch "
                f"of {spec.speakers} speakers x {spec.utterances_per_speaker} utterances: raise "
                "data.windows.shards, "
                "or lower data.windows.lanes or batch.speakers"
            )
        share = first.account.total / (windows.width * windows.lanes)
        self._steps_per_epoch = max(
            1, round(len(first.utterance) * share * windows.shards / first.account.total)
        )

    @property
    def steps_per_epoch(self) -> int:
        """About how many steps an epoch has, reckoned from the first window: windows differ a little."""
        return self._steps_per_epoch

    def check_world(self, world: int) -> None:
        """Raise PlanError unless each of `world` ranks carries the same number of whole lanes."""
        check_lanes(self.windows.lanes, world)

    def account(self) -> Account:
        """Where the utterances of the first window go."""
        return self._window(self._anchors[0].epoch, self._anchors[0].window).account

    def anchor(self, step: int) -> Anchor:
        """The window that `step` is in. Costs planning the windows between the last known one and it."""
        if step < self._anchors[0].step:
            self._anchors = [Anchor(0, 0, 0)]
        while True:
            known = self._anchors[-1]
            if step < known.step:
                return next(anchor for anchor in reversed(self._anchors) if anchor.step <= step)
            if step < known.step + len(self._window(known.epoch, known.window).utterance):
                return known
            self._anchors.append(self.following(known))

    def following(self, at: Anchor) -> Anchor:
        """The window after `at`."""
        step = at.step + len(self._window(at.epoch, at.window).utterance)
        if at.window + 1 == self.windows.per_epoch:
            return Anchor(at.epoch + 1, 0, step)
        return Anchor(at.epoch, at.window + 1, step)

    def epoch_of(self, step: int) -> int:
        return self.anchor(step).epoch

    def batch(self, step: int) -> Batch:
        """Global batch number `step` of the run, counted from 0 over all epochs."""
        at = self.anchor(step)
        window = self._window(at.epoch, at.window)
        row, spec = step - at.step, self.spec
        # The window's number above, so that a sample's number needs nothing of the windows before.
        n = (at.window << 32) + row * spec.size + np.arange(spec.size, dtype=np.int64)
        room = np.maximum(window.frames[row] - spec.crop, 0)
        start = philox.integers(spec.seed, "crop start", at.epoch, n, room + 1)
        return Batch(step, at.epoch, n, window.utterance[row], window.label[row].astype(np.int64), start)

    def shards(self, at: Anchor, rank: int, world: int) -> npt.NDArray[np.int64]:
        """The shards that a rank's lanes read in a window, in no particular order."""
        lanes = self.windows.of(at.epoch, at.window)
        each = len(lanes) // world
        return np.concatenate(lanes[rank * each : (rank + 1) * each])

    def _window(self, epoch: int, window: int) -> _Window:
        if self._planned is None or self._planned[0] != (epoch, window):
            self._planned = ((epoch, window), self._plan_window(epoch, window))
        return self._planned[1]

    def _plan_window(self, epoch: int, window: int) -> _Window:
        spec, lanes = self.spec, self.windows.lanes
        inside = self.windows.of(epoch, window)
        self._columns.prepare(np.concatenate(inside))
        parts = [self._columns.of(shards) for shards in inside]
        number, label, frames = (np.concatenate([part[i] for part in parts]) for i in range(3))
        lane = np.repeat(np.arange(lanes), [len(part[0]) for part in parts])
        total = len(number)
        within = self._within_cap(number, label, epoch)
        number, label, frames, lane = number[within], label[within], frames[within], lane[within]
        present, speaker = np.unique(label, return_inverse=True)
        cell = lane * len(present) + speaker
        counts = np.bincount(cell, minlength=lanes * len(present)).astype(np.int64)

        groups = groups_per_speaker(counts, spec.utterances_per_speaker, None)
        bits = philox.raw(spec.seed, "group time", epoch, int(groups.sum()), window)
        chosen = spread(groups.reshape(lanes, -1), spec.speakers // lanes, bits, turn=window)

        own = shuffle_within_speakers(cell, counts, spec.seed, epoch, window)
        cells = (np.arange(lanes)[:, None] * len(present) + chosen).reshape(-1)
        first = own.first[cells] + occurrence(cells, len(counts)) * spec.utterances_per_speaker
        rows = own.order[first[:, None] + np.arange(spec.utterances_per_speaker)]
        rows = rows.reshape(len(chosen), spec.size)
        grouped = int(groups.sum()) * spec.utterances_per_speaker
        account = Account(total, rows.size, total - len(number), len(number) - grouped, grouped - rows.size)
        return _Window(number[rows], label[rows], frames[rows], account)

    def _within_cap(
        self, number: npt.NDArray[np.int64], label: npt.NDArray[np.int32], epoch: int
    ) -> npt.NDArray[np.bool_]:
        """Which utterances max_utterances_per_speaker lets into this epoch.

        Of a speaker with more, so many that follow one another in the shards, from a place drawn
        anew every epoch: a window can tell without knowing the others.
        """
        cap = self.spec.max_utterances_per_speaker
        if cap is None:
            return np.ones(len(number), dtype=np.bool_)
        turn, total = self._columns.turns(number)
        begin = philox.integers(self.spec.seed, "capped range", epoch, label, total)
        return (turn - begin) % total < cap
