"""What each way to read an epoch asks of the store and of a node's disk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shard_tools.arrays import Int64Array
from shard_tools.dataset.index import BLOCK_SIZE
from shard_tools.read.ranged import spans
from shard_tools.storage import DOWNLOAD_PART
from train.data.windowed import WindowedBatches
from train.plan import BatchPlan, BatchSpec, EpochPlan, PlanError, Windows
from train.simulate.dataset import Dataset
from train.simulate.mixing import Mixing, mixing


@dataclass(frozen=True)
class Job:
    """Who reads: `nodes` machines of `ranks_per_node` processes; verify_crops: whole blocks are read."""

    nodes: int
    ranks_per_node: int
    spec: BatchSpec
    verify_crops: bool

    @property
    def world(self) -> int:
        return self.nodes * self.ranks_per_node


@dataclass(frozen=True)
class Reading:
    """The first epoch, read one way. Bytes and requests are those of the node that has most of them.

    window: shards of each lane that are mixed at a time; None where the whole epoch is.
    left_out: share of the utterances within the cap that the epoch does not use.
    cache_bytes: data.cache.capacity must be so much: twice the largest window that any epoch can have.
    """

    way: str
    window: int | None
    steps: int
    left_out: float
    bytes: int
    requests: int
    cache_bytes: int
    mixing: Mixing


@dataclass(frozen=True)
class Impossible:
    """A window with which no epoch can be planned, and why."""

    window: int
    reason: str


@dataclass(frozen=True)
class _Epoch:
    utterance: Int64Array  # (batches, P*K)
    label: Int64Array  # (batches, P*K)
    start: Int64Array  # (batches, P*K)
    crop: Int64Array  # (batches, 1), audio frames of each batch's crops


def ranged(dataset: Dataset, job: Job) -> Reading:
    """A full shuffle, whose crops are fetched by ranged requests. Raises PlanError."""
    left = dataset.left
    plan = EpochPlan(dataset.label[left], dataset.frames[left], dataset.speakers, job.spec, numbers=left)
    plan.check_world(job.world)
    epoch = _walk(plan)
    begin, end = crop_ranges(dataset, epoch.utterance, epoch.start, epoch.crop, job.verify_crops)
    shard = dataset.shard[epoch.utterance]
    fetched, requests = np.zeros(job.nodes, np.int64), np.zeros(job.nodes, np.int64)
    rows = job.spec.size // job.world
    for step in range(len(epoch.utterance)):
        for rank in range(job.world):
            own = step, slice(rank * rows, (rank + 1) * rows)
            made = spans(shard[own].tolist(), begin[own].tolist(), (end[own] - begin[own]).tolist())
            fetched[rank // job.ranks_per_node] += sum(span.end - span.start for span in made)
            requests[rank // job.ranks_per_node] += len(made)
    return _reading(dataset, job, epoch, "ranged", None, int(fetched.max()), int(requests.max()), 0)


def cached(dataset: Dataset, job: Job, lanes: int, width: int) -> Reading | Impossible:
    """Whole shards, brought to each node a window ahead, in windows of `width` shards of each lane.

    Raises PlanError for lanes that the processes or the batch cannot share.
    """
    windows = Windows(len(dataset.shard_bytes), lanes, width, job.spec.seed)
    try:
        plan = WindowedBatches(dataset, dataset.speakers, job.spec, windows)
    except PlanError as error:
        if job.spec.speakers % lanes:
            raise
        return Impossible(width, str(error))
    plan.check_world(job.world)
    epoch = _walk(plan)
    fetched, requests = brought(dataset, windows, job.nodes)
    largest = np.sort(dataset.shard_bytes)[::-1][: lanes // job.nodes * width]
    room = 2 * int(largest.sum())
    return _reading(dataset, job, epoch, "cached", width, int(fetched.max()), int(requests.max()), room)


def crop_ranges(
    dataset: Dataset,
    utterance: Int64Array,
    start: Int64Array,
    crop: int | Int64Array,
    verify: bool,
) -> tuple[Int64Array, Int64Array]:
    """First byte of each crop in its shard, and the one after its last, both of the shape of `utterance`.

    That is the crop's PCM, or its FLAC frames, or the whole member where their places are not known.
    Verified crops are read in whole blocks, of which the last of a shard may be shorter.
    """
    member, frames = dataset.length[utterance], dataset.frames[utterance]
    count = np.minimum(frames, crop)
    first, last = np.zeros_like(start), member
    if dataset.flac is not None:
        first, last = dataset.flac.ranges(utterance, start, count, frames, member)
    begin = dataset.begin[utterance] + np.where(member > 0, first, 2 * start)
    end = np.where(member > 0, dataset.begin[utterance] + last, begin + 2 * count)
    if verify:
        begin = begin // BLOCK_SIZE * BLOCK_SIZE
        whole = dataset.shard_bytes[dataset.shard[utterance]]
        end = np.minimum(-(-end // BLOCK_SIZE) * BLOCK_SIZE, whole)
    return begin, end


def brought(dataset: Dataset, windows: Windows, nodes: int) -> tuple[Int64Array, Int64Array]:
    """Bytes of the shards that each node brings in the first epoch, and requests; int64 (nodes,) each."""
    each = windows.lanes // nodes
    fetched, requests = np.zeros(nodes, np.int64), np.zeros(nodes, np.int64)
    for window in range(windows.per_epoch):
        lanes = windows.of(0, window)
        for node in range(nodes):
            own = dataset.shard_bytes[np.concatenate(lanes[node * each : (node + 1) * each])]
            fetched[node] += own.sum()
            requests[node] += (-(-own // DOWNLOAD_PART)).sum()
    return fetched, requests


def over_cap(dataset: Dataset, spec: BatchSpec) -> int:
    """Utterances beyond max_utterances_per_speaker, which no plan uses in an epoch."""
    cap = spec.max_utterances_per_speaker
    counts = np.bincount(dataset.label[dataset.left])
    return 0 if cap is None else int(np.maximum(counts - cap, 0).sum())


def _walk(plan: BatchPlan) -> _Epoch:
    batches = []
    step = 0
    while (batch := plan.batch(step)).epoch == 0:
        batches.append(batch)
        step += 1
    return _Epoch(
        utterance=np.stack([batch.utterance for batch in batches]),
        label=np.stack([batch.label for batch in batches]),
        start=np.stack([batch.start for batch in batches]),
        crop=np.array([[batch.crop] for batch in batches]),
    )


def _reading(
    dataset: Dataset,
    job: Job,
    epoch: _Epoch,
    way: str,
    window: int | None,
    fetched: int,
    requests: int,
    cache_bytes: int,
) -> Reading:
    offered = len(dataset.left) - over_cap(dataset, job.spec)
    return Reading(
        way=way,
        window=window,
        steps=len(epoch.utterance),
        left_out=1 - epoch.utterance.size / offered,
        bytes=fetched,
        requests=requests,
        cache_bytes=cache_bytes,
        mixing=mixing(epoch.utterance, epoch.label, dataset.shard, job.spec.utterances_per_speaker),
    )
