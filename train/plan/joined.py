"""The plan over several datasets: each has a plan of its own, and a batch is made of one of each.

Every dataset gives a fixed share of each batch's speakers, from epochs of its own; the first one's are the
run's. So a step's batch follows from the step by the arithmetic of the single plans. Where datasets
have speakers in common, the later one's plan is told whom the batches have from the earlier ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from shard_tools import philox
from shard_tools.arrays import Int64Array
from train.plan.base import Account, Anchor, Batch, BatchPlan, BatchSpec, PlanError, Taken, check_shared

_WINDOW = 32  # bits of a sample's number below its window's


class SpeakersPlan(BatchPlan, Protocol):
    """A plan that can be asked for the speakers alone."""

    def speakers_at(self, first: int, last: int) -> Int64Array:
        """The labels of the batches of steps [first, last), once a speaker; int64 (last - first, P)."""


# A dataset's own plan, of its share of speakers: given where to begin, and the speakers that batches have
# from the datasets before it.
PlanMaker = Callable[[Anchor | None, Taken | None], SpeakersPlan]


@dataclass(frozen=True, eq=False)
class Member:
    """A dataset among several, and what its own numbers are among all.

    utterances: how many it has; first, total: the number of its first among all, and how many all have;
    labels: int64, all datasets' label of each label of its own plan; first_shard: the number of its first.
    Its plan may number utterances over again for each speed, from `utterances` on and then from twice as
    many; so are those of all numbered.
    """

    utterances: int
    first: int
    total: int
    labels: Int64Array
    first_shard: int

    def numbers(self, utterance: Int64Array) -> Int64Array:
        """All datasets' numbers of its plan's utterances."""
        speed, own = np.divmod(utterance, self.utterances)
        return speed * self.total + self.first + own


class JoinedPlan:
    """A BatchPlan over several datasets: no batch has a speaker twice, whatever they have in common.

    speakers: labels over all; spec: of the whole batch; lanes: its parts, each of which has its share of
    every dataset, or None where batches mix whole epochs. anchor: where to begin, as `origin` gave it.

    The first dataset's epochs are the run's, and `account` is its. plans: the datasets' own.
    """

    def __init__(
        self,
        members: Sequence[Member],
        plans: Sequence[PlanMaker],
        speakers: int,
        spec: BatchSpec,
        lanes: int | None = None,
        anchor: Anchor | None = None,
    ) -> None:
        """Raises PlanError as the datasets' plans do, or for an anchor of another number of datasets."""
        anchors = [None] * len(members) if anchor is None else _apart(anchor)
        if len(anchors) != len(members):
            raise PlanError(f"there are {len(members)} datasets, and windows to go on from of {len(anchors)}")
        self.spec = spec
        self.speakers = speakers
        self._members = members
        self._lanes = lanes
        # To look ahead in: a plan keeps one epoch or window, and the batches' own must not drive it out.
        asked: list[SpeakersPlan] = []
        self.plans: list[SpeakersPlan] = []
        self._overlap = False
        for number, (member, make, begin) in enumerate(zip(members, plans, anchors, strict=True)):
            before = [other for other in range(number) if _overlap(members[other], member)]
            taken = _Taken.of([(members[other], asked[other]) for other in before], member, speakers)
            self._overlap |= taken is not None
            self.plans.append(make(begin, taken))
            wanted = any(_overlap(member, later) for later in members[number + 1 :])
            asked.append(make(begin, taken) if wanted else self.plans[number])

    @property
    def steps_per_epoch(self) -> int:
        return self.plans[0].steps_per_epoch

    @property
    def shares(self) -> list[int]:
        """The speakers of each batch that each dataset gives."""
        return [plan.spec.speakers for plan in self.plans]

    def check_world(self, world: int) -> None:
        """Raise PlanError unless `world` processes can share the batches."""
        if self._lanes is None:
            check_shared(self.spec.speakers, world)
        else:
            self.plans[0].check_world(world)

    def account(self) -> Account:
        """Where the utterances of the first dataset go."""
        return self.plans[0].account()

    def epoch_of(self, step: int) -> int:
        return self.plans[0].epoch_of(step)

    def epochs_of(self, step: int) -> list[int]:
        return [plan.epoch_of(step) for plan in self.plans]

    def anchor(self, step: int) -> Anchor | None:
        """Each dataset's window that `step` is in."""
        return _together([plan.anchor(step) for plan in self.plans])

    def origin(self, step: int) -> Anchor | None:
        """As anchor; but where datasets have speakers in common, each's window that the later ones' need.

        Those are planned from their first batch on, beside the earlier ones' batches of that step.
        """
        found = []
        for plan in reversed(self.plans):
            at = plan.anchor(step)
            found.append(at)
            if self._overlap and at is not None:
                step = at.step
        return _together(found[::-1])

    def following(self, at: Anchor) -> Anchor:
        """The window after each dataset's own: they do not all begin at one step."""
        each = [plan.following(own) for plan, own in zip(self.plans, _apart(at), strict=True)]
        return replace(each[0], others=tuple(each[1:]))

    def shards(self, at: Anchor, rank: int, world: int) -> Int64Array:
        """The shards that a rank's part of these windows' batches lies in, numbered over all datasets."""
        return np.concatenate(
            [
                plan.shards(own, rank, world) + member.first_shard
                for member, plan, own in zip(self._members, self.plans, _apart(at), strict=True)
            ]
        )

    def batch(self, step: int) -> Batch:
        """Global batch number `step` of the run, counted from 0 over all epochs of the first dataset."""
        parts = [plan.batch(step) for plan in self.plans]
        spec, lanes = self.spec, self._lanes or 1
        # The place in a lane, or in the batch, decides the rank, and with whom a row is normalised.
        drawn = philox.words(
            spec.seed, "place among datasets", 0, step * spec.speakers + np.arange(spec.speakers)
        )
        places = np.argsort(drawn.reshape(lanes, -1), axis=1, kind="stable")[:, :, None]

        def together(columns: Sequence[Int64Array]) -> Int64Array:
            split = [column.reshape(lanes, -1, spec.utterances_per_speaker) for column in columns]
            return np.take_along_axis(np.concatenate(split, axis=1), places, axis=1).reshape(-1)

        members = self._members
        return replace(
            parts[0],
            n=_numbers(int(parts[0].n[0]), len(parts[0].n), spec.size),
            utterance=together([m.numbers(part.utterance) for m, part in zip(members, parts, strict=True)]),
            label=together([m.labels[part.label] for m, part in zip(members, parts, strict=True)]),
            start=together([part.start for part in parts]),
        )


def _numbers(first: int, share: int, size: int) -> Int64Array:
    """A batch's `size` sample numbers; the first dataset's plan counts its `share` from `first` on."""
    window, within = divmod(first, 1 << _WINDOW)
    return (window << _WINDOW) + within // share * size + np.arange(size, dtype=np.int64)


def _together(anchors: Sequence[Anchor | None]) -> Anchor | None:
    first, *others = anchors
    return (
        None
        if first is None
        else replace(first, others=tuple(other for other in others if other is not None))
    )


def _apart(anchor: Anchor) -> list[Anchor]:
    return [replace(anchor, others=()), *anchor.others]


def _overlap(one: Member, other: Member) -> bool:
    return bool(np.isin(other.labels, one.labels).any())


@dataclass(frozen=True, eq=False)
class _Taken:
    """The speakers of a dataset that batches have from those before it."""

    plans: list[SpeakersPlan]
    own: list[Int64Array]  # for each plan, the dataset's own label of each of its labels, or -1

    @classmethod
    def of(
        cls, before: Sequence[tuple[Member, SpeakersPlan]], member: Member, speakers: int
    ) -> _Taken | None:
        """before: those that have speakers of `member`; None where there are none."""
        if not before:
            return None
        own = np.full(speakers, -1, np.int64)
        own[member.labels] = np.arange(len(member.labels))
        return cls([plan for _, plan in before], [own[other.labels] for other, _ in before])

    @property
    def whom(self) -> Int64Array:
        found = np.unique(np.concatenate(self.own))
        return found[found >= 0]

    @property
    def most(self) -> int:
        return sum(plan.spec.speakers for plan in self.plans)

    def __call__(self, first: int, last: int) -> Int64Array:
        found = [own[plan.speakers_at(first, last)] for plan, own in zip(self.plans, self.own, strict=True)]
        return np.concatenate(found, axis=1)
