"""The plan over a whole epoch at once: step → global batch, by arithmetic."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from shard_tools import philox
from shard_tools.arrays import Int32Array, Int64Array
from shard_tools.dataset.layout import occurrence
from train.plan.base import Account, Anchor, Batch, BatchSpec, PlanError, check_shared
from train.plan.groups import MAX_SPEAKERS, SpeakerUtterances, groups_per_speaker, shuffle_within_speakers
from train.plan.rollover import Rollover
from train.plan.spread import batches_that_fit, spread


class EpochPlan:
    """Global batches by step number, each epoch a random order of all utterances.

    labels: int32 (utterances,) speaker of each utterance; frames: int64 (utterances,)
    its audio frames; speakers: how many the manifest has.

    An epoch has `steps_per_epoch` full batches; nothing is padded or repeated, and
    `account` says what an epoch leaves out: another random choice every epoch, or with
    spec.leftover "rollover" what then comes first in the next.

    Raises PlanError when there are not enough speakers with enough utterances for one batch.
    """

    def __init__(self, labels: Int32Array, frames: Int64Array, speakers: int, spec: BatchSpec) -> None:
        if speakers > MAX_SPEAKERS:
            raise PlanError(f"the manifest has {speakers} speakers; a plan serves at most {MAX_SPEAKERS}")
        self.spec = spec
        self.speakers = speakers
        self._labels = labels
        self._frames = frames
        self._counts = np.bincount(labels, minlength=speakers).astype(np.int64)
        self._groups = groups_per_speaker(
            self._counts, spec.utterances_per_speaker, spec.max_utterances_per_speaker
        )
        self.steps_per_epoch = batches_that_fit(self._groups, spec.speakers)
        if self.steps_per_epoch == 0:
            able = int((self._groups > 0).sum())
            raise PlanError(
                f"batch.speakers asks for {spec.speakers} speakers with at least "
                f"{spec.utterances_per_speaker} utterance(s) each (batch.utterances_per_speaker), and the "
                f"manifest has {able} such of {speakers}: set batch.speakers to at most {able}, or lower "
                "batch.utterances_per_speaker"
            )
        self._rollover: Rollover | None = None
        if spec.leftover == "rollover":
            self._rollover = Rollover(
                labels,
                self._counts,
                self._groups,
                spec.utterances_per_speaker,
                self.steps_per_epoch,
                spec.speakers,
                spec.seed,
            )
        self._epoch: tuple[int, Int64Array] | None = None

    def check_world(self, world: int) -> None:
        """Raise PlanError unless each of `world` ranks gets the same number of whole speakers."""
        check_shared(self.spec.speakers, world)

    def account(self) -> Account:
        """Where the utterances of one epoch go."""
        each, cap = self.spec.utterances_per_speaker, self.spec.max_utterances_per_speaker
        total = int(self._counts.sum())
        capped = total if cap is None else int(np.minimum(self._counts, cap).sum())
        grouped = int(self._groups.sum()) * each
        used = self.steps_per_epoch * self.spec.size
        unusable = int(self._counts[self._groups == 0].sum())
        return Account(total, used, total - capped, capped - grouped - unusable, grouped - used, unusable)

    def epoch_of(self, step: int) -> int:
        return step // self.steps_per_epoch

    def anchor(self, step: int) -> None:
        """There are no windows: any step is planned from its epoch alone."""

    def following(self, at: Anchor) -> NoReturn:
        raise LookupError("a plan by epochs has no windows")

    def shards(self, at: Anchor, rank: int, world: int) -> NoReturn:
        raise LookupError("a plan by epochs has no windows")

    def batch(self, step: int) -> Batch:
        """Global batch number `step` of the run, counted from 0 over all epochs."""
        epoch, row = divmod(step, self.steps_per_epoch)
        spec = self.spec
        n = row * spec.size + np.arange(spec.size, dtype=np.int64)
        utterance = self._utterances(epoch)[row]
        crop = spec.crop_at(step)
        room = np.maximum(self._frames[utterance] - crop, 0)
        start = philox.integers(spec.seed, "crop start", epoch, n, room + 1)
        return Batch(step, epoch, n, utterance, self._labels[utterance].astype(np.int64), start, crop)

    def _utterances(self, epoch: int) -> Int64Array:
        """The utterances of every batch of an epoch, (batches, P*K); the epoch in use is kept."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = None  # the old one goes before the new one is built: half the memory
            self._epoch = (epoch, self._plan_epoch(epoch))
        return self._epoch[1]

    def _plan_epoch(self, epoch: int) -> Int64Array:
        spec = self.spec
        groups = self._groups if self._rollover is None else self._rollover.groups(epoch)
        bits = philox.raw(spec.seed, "group time", epoch, int(groups.sum()))
        speakers = spread(groups[None], spec.speakers, bits)[:, 0]
        # The place in the row decides the rank, so it is drawn too.
        places = philox.raw(spec.seed, "place in batch", epoch, speakers.size).reshape(speakers.shape)
        speakers = np.take_along_axis(speakers, np.argsort(places, axis=1, kind="stable"), axis=1)
        own = self._in_order(epoch)
        turn = occurrence(speakers.reshape(-1), len(self._counts))
        first = own.first[speakers.reshape(-1)] + turn * spec.utterances_per_speaker
        rows = first[:, None] + np.arange(spec.utterances_per_speaker)
        return own.order[rows].reshape(len(speakers), spec.size)

    def _in_order(self, epoch: int) -> SpeakerUtterances:
        """What the epoch may use of every speaker, in the epoch's random order."""
        spec = self.spec
        if self._rollover is None:
            return shuffle_within_speakers(self._labels, self._counts, spec.seed, epoch)
        rows = self._rollover.utterances(epoch)
        counts = self._rollover.groups(epoch) * spec.utterances_per_speaker
        own = shuffle_within_speakers(self._labels[rows], counts, spec.seed, epoch)
        return SpeakerUtterances(rows[own.order], own.first)
