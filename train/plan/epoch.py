"""The plan over a whole epoch at once: step → global batch, by arithmetic."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from shard_tools import philox
from shard_tools.arrays import Int32Array, Int64Array
from shard_tools.dataset.layout import occurrence
from train.plan.base import (
    Account,
    Anchor,
    Batch,
    BatchSpec,
    PlanError,
    Taken,
    TooFewSpeakersError,
    check_shared,
)
from train.plan.groups import MAX_SPEAKERS, SpeakerUtterances, groups_per_speaker, shuffle_within_speakers
from train.plan.rollover import Rollover
from train.plan.spread import batches_that_fit, spread


class EpochPlan:
    """Global batches by step number, each epoch a random order of all utterances.

    labels: int32 (utterances,) speaker of each utterance; frames: int64 (utterances,)
    its audio frames; speakers: how many the manifest has; taken: the speakers that batches have
    from elsewhere, beside whom there must always be enough others; numbers: int64 (utterances,), what
    batches call each utterance, where these are not all that there are (None: by its row).

    An epoch has `steps_per_epoch` full batches; nothing is padded or repeated, and
    `account` says what an epoch leaves out: another random choice every epoch, or with
    spec.leftover "rollover" what then comes first in the next. Where speakers are taken a few more may
    be left out, and others stand in for them, who come once more than they should.

    Raises PlanError when there are not enough speakers with enough utterances for one batch.
    """

    def __init__(
        self,
        labels: Int32Array,
        frames: Int64Array,
        speakers: int,
        spec: BatchSpec,
        taken: Taken | None = None,
        numbers: Int64Array | None = None,
    ) -> None:
        if speakers > MAX_SPEAKERS:
            raise PlanError(f"the manifest has {speakers} speakers; a plan serves at most {MAX_SPEAKERS}")
        self.spec = spec
        self.speakers = speakers
        self._labels = labels
        self._frames = frames
        self._taken = taken
        self._numbers = numbers
        self._counts = np.bincount(labels, minlength=speakers).astype(np.int64)
        self._groups = groups_per_speaker(
            self._counts, spec.utterances_per_speaker, spec.max_utterances_per_speaker
        )
        self.steps_per_epoch = batches_that_fit(self._groups, spec.speakers)
        if self.steps_per_epoch == 0:
            raise TooFewSpeakersError(spec, int((self._groups > 0).sum()), speakers)
        if taken is not None:
            _check_beside(taken, self._groups > 0, spec.speakers)
        self._rollover: Rollover | None = None
        if spec.leftover == "rollover":
            self._rollover = Rollover(
                labels,
                self._counts,
                self._groups,
                spec.utterances_per_speaker,
                self.steps_per_epoch,
                spec.speakers,
                spec.plan_seed,
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

    def epochs_of(self, step: int) -> list[int]:
        return [self.epoch_of(step)]

    def anchor(self, step: int) -> None:
        """There are no windows: any step is planned from its epoch alone."""

    def origin(self, step: int) -> None:
        """As anchor."""

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
        start = philox.integers(spec.plan_seed, "crop start", epoch, n, room + 1)
        label = self._labels[utterance].astype(np.int64)
        number = utterance if self._numbers is None else self._numbers[utterance]
        return Batch(step, epoch, n, number, label, start, crop)

    def speakers_at(self, first: int, last: int) -> Int64Array:
        """The speakers of the batches of steps [first, last); int64 (last - first, P)."""
        found = []
        while first < last:
            epoch, row = divmod(first, self.steps_per_epoch)
            rows = self._utterances(epoch)[row : row + last - first, :: self.spec.utterances_per_speaker]
            found.append(self._labels[rows])
            first += len(rows)
        return np.concatenate(found).astype(np.int64)

    def _utterances(self, epoch: int) -> Int64Array:
        """The utterances of every batch of an epoch, (batches, P*K); the epoch in use is kept."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = None  # the old one goes before the new one is built: half the memory
            self._epoch = (epoch, self._plan_epoch(epoch))
        return self._epoch[1]

    def _plan_epoch(self, epoch: int) -> Int64Array:
        spec = self.spec
        groups = self._groups if self._rollover is None else self._rollover.groups(epoch)
        bits = philox.raw(spec.plan_seed, "group time", epoch, int(groups.sum()))
        begin, steps = epoch * self.steps_per_epoch, self.steps_per_epoch
        taken = None if self._taken is None else self._taken(begin, begin + steps)
        speakers = spread(groups[None], spec.speakers, bits, taken=taken, again=taken is not None)[:, 0]
        # The place in the row decides the rank, so it is drawn too.
        places = philox.raw(spec.plan_seed, "place in batch", epoch, speakers.size).reshape(speakers.shape)
        speakers = np.take_along_axis(speakers, np.argsort(places, axis=1, kind="stable"), axis=1)
        own = self._in_order(epoch)
        speakers = speakers.reshape(-1)
        turn = occurrence(speakers, len(self._counts))
        if taken is not None:  # who comes once more begins anew
            turn %= groups[speakers]
        first = own.first[speakers] + turn * spec.utterances_per_speaker
        rows = first[:, None] + np.arange(spec.utterances_per_speaker)
        return own.order[rows].reshape(steps, spec.size)

    def _in_order(self, epoch: int) -> SpeakerUtterances:
        """What the epoch may use of every speaker, in the epoch's random order."""
        spec = self.spec
        if self._rollover is None:
            return shuffle_within_speakers(self._labels, self._counts, spec.plan_seed, epoch)
        rows = self._rollover.utterances(epoch)
        counts = self._rollover.groups(epoch) * spec.utterances_per_speaker
        own = shuffle_within_speakers(self._labels[rows], counts, spec.plan_seed, epoch)
        return SpeakerUtterances(rows[own.order], own.first)


def _check_beside(taken: Taken, able: npt.NDArray[np.bool_], share: int) -> None:
    """Raise PlanError unless a batch finds `share` able speakers whatever others of them it has."""
    common = int(able[taken.whom].sum())
    most = min(common, taken.most)
    if able.sum() - most < share:
        raise PlanError(
            f"of its {able.sum()} speakers with enough utterances {common} are in other datasets too "
            f"(data.same_speakers joined), which may have put {most} of these into a batch: lower "
            "batch.speakers or its weight in data.weights"
        )
