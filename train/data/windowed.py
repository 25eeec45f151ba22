"""Batches by windows of shards: the windows' utterances are looked up as the run comes to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from shard_tools import philox
from shard_tools.arrays import Int64Array
from train.plan import (
    Account,
    Anchor,
    Batch,
    BatchSpec,
    PlanError,
    PlannedWindow,
    Windows,
    WindowUtterances,
    plan_window,
)
from train.plan.base import check_enough_shards, check_lanes


class WindowTable(Protocol):
    """Who knows what lies in shards. Looking may read indexes, and raise what storage raises."""

    def window(self, lanes: Sequence[Int64Array]) -> WindowUtterances:
        """The utterances of the shards of each lane."""


class WindowedBatches:
    """A BatchPlan by windows: each lane gives its share of every batch from shards of its own.

    speakers: how many the manifest has; spec.speakers must be a multiple of the lanes.

    A window is planned from its own shards alone, so that any step can be reached from its window's
    Anchor at the cost of one window. Its methods ask the table for windows that it has not planned,
    and raise what that raises. `account` says what a window leaves out.
    """

    def __init__(
        self,
        table: WindowTable,
        speakers: int,
        spec: BatchSpec,
        windows: Windows,
        anchor: Anchor | None = None,
    ) -> None:
        """anchor: a window to begin with; the first of the run where none is given. Raises PlanError."""
        if spec.speakers % windows.lanes:
            raise PlanError(
                f"batch.speakers {spec.speakers} is not a multiple of data.windows.lanes "
                f"{windows.lanes}: each lane gives the same number of speakers to a batch; change one of them"
            )
        check_enough_shards(windows.lanes, windows.shards)
        self.spec = spec
        self.speakers = speakers
        self.windows = windows
        self._table = table
        self._planned: tuple[tuple[int, int], PlannedWindow] | None = None
        self._anchors = [Anchor(0, 0, 0)] if anchor is None else [anchor]
        first = self._window(self._anchors[0])
        if not len(first):
            raise PlanError(
                f"a window of {windows.width} shards in each of {windows.lanes} lanes cannot fill one batch "
                f"of {spec.speakers} speakers x {spec.utterances_per_speaker} utterances: raise "
                "data.windows.shards, or lower data.windows.lanes or batch.speakers"
            )
        share = first.account.total / (windows.width * windows.lanes)
        self._steps_per_epoch = max(1, round(len(first) * share * windows.shards / first.account.total))

    @property
    def steps_per_epoch(self) -> int:
        """About how many steps an epoch has, reckoned from the first window: windows differ a little."""
        return self._steps_per_epoch

    def check_world(self, world: int) -> None:
        """Raise PlanError unless each of `world` ranks carries the same number of whole lanes."""
        check_lanes(self.windows.lanes, world)

    def account(self) -> Account:
        """Where the utterances of the first window go."""
        return self._window(self._anchors[0]).account

    def anchor(self, step: int) -> Anchor:
        """The window that `step` is in. Costs planning the windows between the last known one and it."""
        if step < self._anchors[0].step:
            self._anchors = [Anchor(0, 0, 0)]
        while True:
            known = self._anchors[-1]
            if step < known.step:
                return next(anchor for anchor in reversed(self._anchors) if anchor.step <= step)
            if step < known.step + len(self._window(known)):
                return known
            self._anchors.append(self.following(known))

    def following(self, at: Anchor) -> Anchor:
        """The window after `at`."""
        step = at.step + len(self._window(at))
        if at.window + 1 == self.windows.per_epoch:
            return Anchor(at.epoch + 1, 0, step)
        return Anchor(at.epoch, at.window + 1, step)

    def epoch_of(self, step: int) -> int:
        return self.anchor(step).epoch

    def batch(self, step: int) -> Batch:
        """Global batch number `step` of the run, counted from 0 over all epochs."""
        at = self.anchor(step)
        window = self._window(at)
        row, spec = step - at.step, self.spec
        # The window's number above, so that a sample's number needs nothing of the windows before.
        n = (at.window << 32) + row * spec.size + np.arange(spec.size, dtype=np.int64)
        crop = spec.crop_at(step)
        room = np.maximum(window.length[row] - crop, 0)
        start = philox.integers(spec.seed, "crop start", at.epoch, n, room + 1)
        label = window.label[row].astype(np.int64)
        return Batch(step, at.epoch, n, window.utterance[row], label, start, crop)

    def shards(self, at: Anchor, rank: int, world: int) -> Int64Array:
        """The shards that a rank's lanes read in a window, in no particular order."""
        lanes = self.windows.of(at.epoch, at.window)
        each = len(lanes) // world
        return np.concatenate(lanes[rank * each : (rank + 1) * each])

    def _window(self, at: Anchor) -> PlannedWindow:
        which = at.epoch, at.window
        if self._planned is None or self._planned[0] != which:
            found = self._table.window(self.windows.of(*which))
            self._planned = which, plan_window(found, self.spec, self.windows.lanes, *which)
        return self._planned[1]
