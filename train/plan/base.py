"""What every plan gives: global batches by step, and their parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from shard_tools import philox
from shard_tools.arrays import Int64Array
from shard_tools.audio import SAMPLE_RATE
from shard_tools.errors import UserError
from shard_tools.text import counted

_HOP = SAMPLE_RATE // 100  # audio frames from one feature frame to the next


class PlanError(UserError):
    """The manifest cannot fill the batches asked for, or the batch cannot be shared out."""


class TooFewSpeakersError(PlanError):
    """able: how many speakers there are with enough utterances."""

    def __init__(self, spec: BatchSpec, able: int, speakers: int) -> None:
        super().__init__(
            f"batch.speakers asks for {spec.speakers} speakers with at least "
            f"{spec.utterances_per_speaker} utterance(s) each (batch.utterances_per_speaker), and the "
            f"manifest has {able} such of {speakers}: set batch.speakers to at most {able}, or lower "
            "batch.utterances_per_speaker"
        )
        self.able = able


def check_shared(speakers: int, world: int) -> None:
    """Raise PlanError, naming batches near by, unless `world` processes get equally many whole speakers."""
    if speakers % world:
        below = speakers // world * world
        near = f"{below} or {below + world}" if below else f"{world}"
        raise PlanError(f"batch.speakers {speakers} cannot be shared by {world} processes: set it to {near}")


def check_enough_shards(lanes: int, shards: int) -> None:
    """Raise PlanError unless each lane gets a shard."""
    if lanes > shards:
        are = "is" if shards == 1 else "are"
        raise PlanError(
            f"data.windows.lanes is {lanes}, and there {are} {counted(shards, 'shard')}: lower it, or pack "
            "with fewer utterances per shard"
        )


def check_lanes_share(speakers: int, lanes: int) -> None:
    """Raise PlanError unless each lane can give the same number of speakers to a batch."""
    if speakers % lanes:
        raise PlanError(
            f"batch.speakers {speakers} is not a multiple of data.windows.lanes {lanes}: each lane gives the "
            "same number of speakers to a batch; change one of them"
        )


def check_lanes(lanes: int, world: int) -> None:
    """Raise PlanError, naming numbers near by, unless `world` processes get equally many whole lanes."""
    if lanes % world:
        below = lanes // world * world
        near = f"{below} or {below + world}" if below else f"{world}"
        raise PlanError(f"data.windows.lanes {lanes} cannot be shared by {world} processes: set it to {near}")


@dataclass(frozen=True)
class BatchSpec:
    """What a global batch is made of: P distinct speakers × K utterances each, in crops of one length.

    varying: by how many feature frames the crops of a batch may be shorter than the longest.
    """

    speakers: int
    utterances_per_speaker: int
    crop: int  # audio frames of a crop, of the longest where they vary
    max_utterances_per_speaker: int | None = None
    seed: int = 0
    leftover: Literal["drop", "rollover"] = "drop"  # rollover: first in the next, by epochs only
    varying: int = 0
    dataset: int = 0  # of several, which: their plans draw independently of each other

    def __post_init__(self) -> None:
        if self.speakers < 1 or self.utterances_per_speaker < 1:
            raise PlanError(
                f"batch.speakers {self.speakers} and batch.utterances_per_speaker "
                f"{self.utterances_per_speaker} must be at least 1"
            )
        cap = self.max_utterances_per_speaker
        if cap is not None and cap < self.utterances_per_speaker:
            raise PlanError(
                f"batch.max_utterances_per_speaker is {cap}, fewer than "
                f"batch.utterances_per_speaker {self.utterances_per_speaker}: raise the first "
                "or lower the second"
            )

    @property
    def size(self) -> int:
        return self.speakers * self.utterances_per_speaker

    @property
    def shortest_crop(self) -> int:
        return self.crop - _HOP * self.varying

    def crop_at(self, step: int) -> int:
        """Audio frames of the crops of a step's batch: every whole number of feature frames equally often."""
        if not self.varying:
            return self.crop
        return self.crop - _HOP * int(philox.integers(self.seed, "crop length", 0, step, self.varying + 1))

    @property
    def plan_seed(self) -> int:
        """Keys what a plan draws: the run's seed, or for a later dataset one that follows from it."""
        if self.dataset == 0:
            return self.seed
        return int(philox.words(self.seed, "dataset", 0, self.dataset)) >> 32


@dataclass(frozen=True)
class Batch:
    """A global batch, or one rank's rows of it. Rows are speaker-major: K consecutive rows a speaker."""

    step: int
    epoch: int
    n: Int64Array  # (rows,) sample number within the epoch: keys every random draw of the sample
    utterance: Int64Array  # (rows,) row of the catalogue
    label: Int64Array  # (rows,)
    start: Int64Array  # (rows,) first audio frame of the crop; 0 where the utterance is shorter
    crop: int  # audio frames of each crop

    def part(self, rank: int, world: int) -> Batch:
        """The consecutive rows that belong to one rank of `world`, which must divide the batch."""
        rows = len(self.n) // world
        own = slice(rank * rows, (rank + 1) * rows)
        return replace(
            self, n=self.n[own], utterance=self.utterance[own], label=self.label[own], start=self.start[own]
        )


@dataclass(frozen=True)
class Account:
    """Where the utterances of an epoch (or of a window of it) go; all counts of utterances."""

    total: int
    used: int
    over_cap: int  # beyond max_utterances_per_speaker
    incomplete_group: int  # fewer than K left of a speaker
    unplaced: int  # would have put a speaker twice into a batch, or did not fill the last batch
    unusable: int = 0  # of speakers with fewer than K in all; a window counts them as incomplete_group


@dataclass(frozen=True)
class Anchor:
    """A window of the run and the step that it begins with: enough to go on from without what came before.

    others: with several datasets, those of the second and later ones.
    """

    epoch: int
    window: int
    step: int
    others: tuple[Anchor, ...] = ()

    def record(self) -> dict[str, Any]:
        """In plain dicts and lists, as a checkpoint holds it."""
        own = {"epoch": self.epoch, "window": self.window, "step": self.step}
        return own | ({"others": [other.record() for other in self.others]} if self.others else {})

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Anchor:
        """The anchor that `record` made this of."""
        others = tuple(cls.of(other) for other in record.get("others", ()))
        return cls(record["epoch"], record["window"], record["step"], others)


class Taken(Protocol):
    """Which speakers batches have from elsewhere, in a plan's own labels.

    whom: int64, each who ever may be; most: how many at once.
    """

    @property
    def whom(self) -> Int64Array: ...

    @property
    def most(self) -> int: ...

    def __call__(self, first: int, last: int) -> Int64Array:
        """Those of steps [first, last), -1 for none; int64 (last - first, any)."""


class BatchPlan(Protocol):
    """Global batches by step number, counted from 0 over all epochs."""

    spec: BatchSpec
    speakers: int

    @property
    def steps_per_epoch(self) -> int: ...

    def batch(self, step: int) -> Batch: ...

    def epoch_of(self, step: int) -> int: ...

    def epochs_of(self, step: int) -> list[int]:
        """The epoch of each dataset, the first of which is the run's."""

    def account(self) -> Account: ...

    def check_world(self, world: int) -> None:
        """Raise PlanError unless `world` processes can share the batches."""

    def anchor(self, step: int) -> Anchor | None:
        """The window that `step` is in; None where batches mix the whole epoch."""

    def origin(self, step: int) -> Anchor | None:
        """Where a plan that is to go on at `step` must begin: at its window, or before it."""

    def following(self, at: Anchor) -> Anchor:
        """The window after `at`, by which what is needed next is known."""

    def shards(self, at: Anchor, rank: int, world: int) -> Int64Array:
        """The shards that a rank's part of a window's batches lies in."""
