"""Batches by windows of shards: the windows' utterances are looked up as the run comes to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
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
    Taken,
    Windows,
    WindowUtterances,
    plan_window,
)
from train.plan.base import check_enough_shards, check_lanes, check_lanes_share

_EMPTY = 1000  # windows without a batch, after which none is looked for any more


class WindowTable(Protocol):
    """Who knows what lies in shards. Looking may read indexes, and raise what storage raises."""

    def window(self, lanes: Sequence[Int64Array]) -> WindowUtterances:
        """The utterances of the shards of each lane."""


class WindowedBatches:
    """A BatchPlan by windows: each lane gives its share of every batch from shards of its own.

    speakers: how many the manifest has; spec.speakers must be a multiple of the lanes; taken: the
    speakers that batches have from elsewhere.

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
        taken: Taken | None = None,
    ) -> None:
        """anchor: a window to begin with; the first of the run where none is given. Raises PlanError."""
        check_lanes_share(spec.speakers, windows.lanes)
        check_enough_shards(windows.lanes, windows.shards)
        self.spec = spec
        self.speakers = speakers
        self.windows = windows
        self._table = table
        self._taken = taken
        self._planned: tuple[tuple[int, int], PlannedWindow] | None = None
        self._anchors = [Anchor(0, 0, 0)] if anchor is None else [anchor]
        if not len(self._window(self._anchors[0])):
            raise PlanError(
                f"a window of {windows.width} shards in each of {windows.lanes} lanes cannot fill one batch "
                f"of {spec.speakers} speakers x {spec.utterances_per_speaker} utterances: raise "
                "data.windows.shards, or lower data.windows.lanes or batch.speakers"
            )

    @cached_property
    def steps_per_epoch(self) -> int:
        """About how many steps an epoch has, reckoned from the run's first window: windows differ a little.

        Not from the window that a run goes on from: its end and its schedules would move.
        """
        held = self._planned
        first = self._window(Anchor(0, 0, 0))
        self._planned = held
        share = 1 / (self.windows.width * self.windows.lanes)
        return max(1, round(len(first) * share * self.windows.shards))

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
        empty = 0
        while True:
            known = self._anchors[-1]
            if step < known.step:
                return next(anchor for anchor in reversed(self._anchors) if anchor.step <= step)
            batches = len(self._window(known))
            if step < known.step + batches:
                return known
            empty = 0 if batches else empty + 1
            if empty == _EMPTY:
                raise PlanError(
                    f"{_EMPTY} windows in a row, up to epoch {known.epoch}, fill no batch of "
                    f"{self.spec.speakers} speakers: raise data.windows.shards, or lower batch.speakers"
                )
            self._anchors.append(self.following(known))

    def origin(self, step: int) -> Anchor:
        """As anchor."""
        return self.anchor(step)

    def following(self, at: Anchor) -> Anchor:
        """The window after `at`."""
        step = at.step + len(self._window(at))
        if at.window + 1 == self.windows.per_epoch:
            return Anchor(at.epoch + 1, 0, step)
        return Anchor(at.epoch, at.window + 1, step)

    def epoch_of(self, step: int) -> int:
        return self.anchor(step).epoch

    def epochs_of(self, step: int) -> list[int]:
        return [self.epoch_of(step)]

    def speakers_at(self, first: int, last: int) -> Int64Array:
        """The speakers of the batches of steps [first, last); int64 (last - first, P)."""
        found = []
        while first < last:
            at = self.anchor(first)
            window, row = self._window(at), first - at.step
            found.append(window.label[row : row + last - first, :: self.spec.utterances_per_speaker])
            first += len(found[-1])
        return np.concatenate(found).astype(np.int64)

    def batch(self, step: int) -> Batch:
        """Global batch number `step` of the run, counted from 0 over all epochs."""
        at = self.anchor(step)
        window = self._window(at)
        row, spec = step - at.step, self.spec
        # The window's number above, so that a sample's number needs nothing of the windows before.
        n = (at.window << 32) + row * spec.size + np.arange(spec.size, dtype=np.int64)
        crop = spec.crop_at(step)
        room = np.maximum(window.length[row] - crop, 0)
        start = philox.integers(spec.plan_seed, "crop start", at.epoch, n, room + 1)
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
            planned = plan_window(found, self.spec, self.windows.lanes, *which, self._taken, at.step)
            self._planned = which, planned
        return self._planned[1]
