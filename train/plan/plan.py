"""The plan of a run: step → global batch, as a pure function of (manifest, seed, epoch, n)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from shard_tools import philox
from shard_tools.errors import UserError
from train.plan.groups import MAX_SPEAKERS, groups_per_speaker, shuffle_within_speakers
from train.plan.spread import batches_that_fit, spread


class PlanError(UserError):
    """The manifest cannot fill the batches asked for, or the batch cannot be shared out."""


@dataclass(frozen=True)
class BatchSpec:
    """What a global batch is made of: P distinct speakers × K utterances each."""

    speakers: int
    utterances_per_speaker: int
    crop: int  # audio frames of a crop
    max_utterances_per_speaker: int | None = None
    seed: int = 0

    @property
    def size(self) -> int:
        return self.speakers * self.utterances_per_speaker


@dataclass(frozen=True)
class Batch:
    """A global batch, or one rank's rows of it. Rows are speaker-major: K consecutive rows a speaker."""

    step: int
    epoch: int
    n: npt.NDArray[np.int64]  # (rows,) sample number within the epoch: keys every random draw of the sample
    utterance: npt.NDArray[np.int64]  # (rows,) row of the catalogue
    label: npt.NDArray[np.int64]  # (rows,)
    start: npt.NDArray[np.int64]  # (rows,) first audio frame of the crop; 0 where the utterance is shorter

    def part(self, rank: int, world: int) -> Batch:
        """The consecutive rows that belong to one rank of `world`, which must divide the batch."""
        rows = len(self.n) // world
        own = slice(rank * rows, (rank + 1) * rows)
        return replace(
            self, n=self.n[own], utterance=self.utterance[own], label=self.label[own], start=self.start[own]
        )


@dataclass(frozen=True)
class EpochAccount:
    """Where an epoch's utterances go; all counts of utterances."""

    total: int
    used: int
    over_cap: int  # beyond max_utterances_per_speaker
    incomplete_group: int  # fewer than K left of a speaker
    unplaced: int  # would have put a speaker twice into a batch, or did not fill the last batch


class Plan:
    """Global batches by step number.

    labels: int32 (utterances,) speaker of each utterance; frames: int64 (utterances,)
    its audio frames; speakers: how many the manifest has.

    An epoch has `steps_per_epoch` full batches; nothing is padded or repeated, and
    `account` says what an epoch leaves out (another random choice every epoch).

    Raises PlanError when there are not enough speakers with enough utterances for one batch.
    """

    def __init__(
        self, labels: npt.NDArray[np.int32], frames: npt.NDArray[np.int64], speakers: int, spec: BatchSpec
    ) -> None:
        if spec.speakers < 1 or spec.utterances_per_speaker < 1:
            raise PlanError(
                f"batch.speakers {spec.speakers} and batch.utterances_per_speaker "
                f"{spec.utterances_per_speaker} must be at least 1"
            )
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
            raise PlanError(self._too_few())
        self._epoch: tuple[int, npt.NDArray[np.int64]] | None = None

    def _too_few(self) -> str:
        spec, able = self.spec, int((self._groups > 0).sum())
        each = spec.utterances_per_speaker
        cap = spec.max_utterances_per_speaker
        if cap is not None and cap < each:
            return (
                f"batch.max_utterances_per_speaker is {cap}, fewer than "
                f"batch.utterances_per_speaker {each}: raise the first or lower the second"
            )
        return (
            f"batch.speakers asks for {spec.speakers} speakers with at least {each} utterance(s) each "
            f"(batch.utterances_per_speaker), and the manifest has {able} such of {len(self._counts)}: "
            f"set batch.speakers to at most {able}, or lower batch.utterances_per_speaker"
        )

    def check_world(self, world: int) -> None:
        """Raise PlanError unless each of `world` ranks gets the same number of whole speakers."""
        if self.spec.speakers % world:
            fitting = [w for w in range(1, world) if self.spec.speakers % w == 0]
            raise PlanError(
                f"{world} processes cannot share batch.speakers {self.spec.speakers} evenly: start "
                f"{fitting[-1]} processes, or set batch.speakers to "
                f"{max(self.spec.speakers // world, 1) * world} (a multiple of {world})"
            )

    def account(self) -> EpochAccount:
        """Where the utterances of one epoch go."""
        each, cap = self.spec.utterances_per_speaker, self.spec.max_utterances_per_speaker
        total = int(self._counts.sum())
        capped = total if cap is None else int(np.minimum(self._counts, cap).sum())
        grouped = int(self._groups.sum()) * each
        used = self.steps_per_epoch * self.spec.size
        return EpochAccount(total, used, total - capped, capped - grouped, grouped - used)

    def locate(self, step: int) -> tuple[int, int]:
        """The epoch of a step, and the step's number within it."""
        return divmod(step, self.steps_per_epoch)

    def batch(self, step: int) -> Batch:
        """Global batch number `step` of the run, counted from 0 over all epochs."""
        epoch, row = self.locate(step)
        spec = self.spec
        n = row * spec.size + np.arange(spec.size, dtype=np.int64)
        utterance = self._utterances(epoch)[row]
        room = np.maximum(self._frames[utterance] - spec.crop, 0)
        start = philox.integers(spec.seed, "crop start", epoch, n, room + 1)
        return Batch(step, epoch, n, utterance, self._labels[utterance].astype(np.int64), start)

    def _utterances(self, epoch: int) -> npt.NDArray[np.int64]:
        """The utterances of every batch of an epoch, (batches, P*K); the epoch in use is kept."""
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = None  # the old one goes before the new one is built: half the memory
            self._epoch = (epoch, self._plan_epoch(epoch))
        return self._epoch[1]

    def _plan_epoch(self, epoch: int) -> npt.NDArray[np.int64]:
        spec = self.spec
        bits = philox.raw(spec.seed, "group time", epoch, int(self._groups.sum()))
        speakers = spread(self._groups[None], spec.speakers, bits)[:, 0]
        # The place in the row decides the rank, so it is drawn too.
        places = philox.raw(spec.seed, "place in batch", epoch, speakers.size).reshape(speakers.shape)
        speakers = np.take_along_axis(speakers, np.argsort(places, axis=1, kind="stable"), axis=1)
        own = shuffle_within_speakers(self._labels, self._counts, spec.seed, epoch)
        turn = _occurrence(speakers.reshape(-1), len(self._counts))
        first = own.first[speakers.reshape(-1)] + turn * spec.utterances_per_speaker
        rows = first[:, None] + np.arange(spec.utterances_per_speaker)
        return own.order[rows].reshape(len(speakers), spec.size)


def _occurrence(values: npt.NDArray[np.int32], speakers: int) -> npt.NDArray[np.int64]:
    """How many equal values stand before each one: [5, 3, 5, 5] → [0, 0, 1, 2]."""
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values, minlength=speakers)
    first = np.cumsum(counts) - counts
    turn = np.empty(len(values), dtype=np.int64)
    turn[order] = np.arange(len(values)) - first[values[order]]
    return turn
