"""The training shards as a run sees them: one dataset, or several that share its batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from shard_tools.arrays import Int64Array
from shard_tools.dataset.joined import JoinedTable
from shard_tools.dataset.joined_speakers import join_speakers
from shard_tools.dataset.table import UtteranceTable
from shard_tools.text import counted
from train.augment.speed import Speeds
from train.plan import (
    Anchor,
    BatchPlan,
    BatchSpec,
    JoinedPlan,
    Member,
    PlanError,
    Taken,
    shares,
)
from train.plan.base import TooFewSpeakersError
from train.plan.joined import SpeakersPlan
from train.plan.shares import too_few_speakers


@dataclass(frozen=True)
class Dataset:
    """A dataset, opened for the order in which it is to be read.

    table: its utterances; speeds: at which each is heard; plan: batches of it, of a given make, from a
    window that a run which goes on knows (None: from the first step), past speakers that are taken;
    excluded: int64, ascending, the utterances that are left out of its plans; emptied: the speakers of
    whom nothing is left, whose labels stay.
    """

    table: UtteranceTable
    speeds: Speeds
    plan: Callable[[BatchSpec, Anchor | None, Taken | None], SpeakersPlan]
    excluded: Int64Array
    emptied: tuple[str, ...]


@dataclass(frozen=True)
class TrainingData:
    """The training shards.

    table: their utterances, of all datasets; speeds: at which each is heard; plan: the run's batches of
    a given make, from a window that a run which goes on knows (None: from its first step);
    tables: of each dataset; excluded: int64, ascending, the utterances of `table` that are left out of
    the plan; emptied: of each dataset the speakers of whom nothing is left, whose labels stay.
    """

    table: UtteranceTable
    speeds: Speeds
    plan: Callable[[BatchSpec, Anchor | None], BatchPlan]
    tables: tuple[UtteranceTable, ...]
    excluded: Int64Array
    emptied: tuple[tuple[str, ...], ...]

    @property
    def speakers(self) -> int:
        """How many speakers there are to tell apart: each at every speed."""
        return len(self.table.speakers) * len(self.speeds.factors)


def single(dataset: Dataset) -> TrainingData:
    """A dataset by itself."""
    return TrainingData(
        dataset.table,
        dataset.speeds,
        lambda spec, anchor: dataset.plan(spec, anchor, None),
        (dataset.table,),
        dataset.excluded,
        (dataset.emptied,),
    )


def join(
    datasets: Sequence[Dataset],
    weights: Sequence[float],
    same_speakers: Literal["refuse", "joined", "apart"],
    speed: list[float],
    lanes: int | None,
) -> TrainingData:
    """Several datasets, each with its share of every batch's speakers by its weight.

    same_speakers: see join_speakers; speed: augment.speed; lanes: of batches by windows, None by epochs.
    Raises UserError for speakers that clash where they must not, and the plan PlanError.
    """
    tables = [dataset.table for dataset in datasets]
    speakers = join_speakers([t.url for t in tables], [t.speakers for t in tables], same_speakers)
    table = JoinedTable(tables, speakers)
    speeds = Speeds.of(speed, len(table), len(table.speakers))
    members = [
        Member(len(own), int(first), len(table), speeds.labels(labels).astype(np.int64), int(first_shard))
        for own, first, labels, first_shard in zip(
            tables, table.first, speakers.labels, table.first_shard, strict=False
        )
    ]

    def plan(spec: BatchSpec, anchor: Anchor | None) -> JoinedPlan:
        each = shares(spec.speakers, weights, lanes or 1)
        specs = [replace(spec, speakers=share, dataset=number) for number, share in enumerate(each)]
        makers = [
            partial(_plan, dataset, own, spec.speakers) for dataset, own in zip(datasets, specs, strict=True)
        ]
        return JoinedPlan(members, makers, len(table.speakers) * len(speeds.factors), spec, lanes, anchor)

    excluded = [first + own.excluded for first, own in zip(table.first, datasets, strict=False)]
    return TrainingData(
        table, speeds, plan, tuple(tables), np.concatenate(excluded), tuple(own.emptied for own in datasets)
    )


def _plan(
    dataset: Dataset, spec: BatchSpec, speakers: int, anchor: Anchor | None, taken: Taken | None
) -> SpeakersPlan:
    """A dataset's plan of its share of `speakers` speakers. Raises PlanError, naming the dataset."""
    url, share, each = dataset.table.url, spec.speakers, spec.utterances_per_speaker
    try:
        return dataset.plan(spec, anchor, taken)
    except TooFewSpeakersError as error:
        enough = f" with {counted(each, 'utterance')}" if each > 1 else ""
        raise too_few_speakers(url, share, speakers, f"{error.able}{enough}") from None
    except PlanError as error:
        raise PlanError(f"{url}, which gives {share} of a batch's {speakers} speakers: {error}") from None
