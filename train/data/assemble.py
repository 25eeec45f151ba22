"""Opening what the configuration names: shards for a plan and a reader, noise and rooms to augment with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Literal

import numpy as np

from models.parts.frontend import crop_length
from shard_tools import storage
from shard_tools.apart import swiftly
from shard_tools.arrays import Int64Array
from shard_tools.cache.cache import CachedShard, ShardCache
from shard_tools.cache.source import CachedSource
from shard_tools.dataset.catalogue import Catalogue, open_catalogue
from shard_tools.dataset.lazy import Mapped
from shard_tools.dataset.shardwise import ShardwiseCatalogue, open_shardwise
from shard_tools.dataset.table import UtteranceTable
from shard_tools.errors import UserError
from shard_tools.heaps import share_heaps
from shard_tools.read.reader import Reader
from shard_tools.workers import share_of_processors
from train.augment import SOURCES
from train.augment.speed import Speeds
from train.config.sections import Config, DataConfig
from train.data.augmentation import build_augmenter
from train.data.copies import folder_on_node
from train.data.excluded import Sieve, emptied, find_excluded, left_of
from train.data.loading import CropLoader
from train.data.pipeline import Stream
from train.data.sets import Dataset, TrainingData, join, single
from train.data.windowed import WindowedBatches
from train.plan import Anchor, BatchPlan, BatchSpec, EpochPlan, Taken, Windows, WindowUtterances

logger = logging.getLogger("train")

# Besides those of two windows: shards that substitutes come from.
_HELD_BESIDES = 16


def open_training_data(config: Config) -> TrainingData:
    """The training shards: by windows their indexes are read as windows need them, else all now."""
    data = config.data
    storage.ready_forks(_places(config))
    if data.order == "windows":
        shardwise = [_open_shardwise(config, url) for url in data.urls]
        excluded = find_excluded(shardwise, data.exclude)
        datasets = [_by_windows(config, *each) for each in zip(shardwise, excluded, strict=True)]
    else:
        whole = [
            open_catalogue(url, block_crcs=data.verify == "crops", processes=share_of_processors())
            for url in data.urls
        ]
        excluded = find_excluded(whole, data.exclude)
        datasets = [_by_epochs(config, *each) for each in zip(whole, excluded, strict=True)]
    if len(datasets) == 1:
        return single(datasets[0])
    lanes = data.windows.lanes if data.order == "windows" else None
    return join(datasets, data.shares, data.same_speakers, config.augment.speed, lanes)


def _by_epochs(config: Config, catalogue: Catalogue, excluded: Int64Array) -> Dataset:
    speeds = Speeds.of(config.augment.speed, len(catalogue), len(catalogue.speakers))

    def plan(spec: BatchSpec, _: Anchor | None, taken: Taken | None) -> EpochPlan:
        left = left_of(len(catalogue), excluded)
        label, frames, numbers = catalogue.label, catalogue.frames, None
        if left is not None:
            label, frames, numbers = label[left], frames[left], speeds.numbers(left)
        speakers = len(catalogue.speakers) * len(speeds.factors)
        return EpochPlan(speeds.labels(label), speeds.frames(frames), speakers, spec, taken, numbers)

    return Dataset(catalogue, speeds, plan, excluded, emptied(catalogue, excluded))


def _open_shardwise(config: Config, url: str) -> ShardwiseCatalogue:
    given = config.data.windows
    # Of two, because batches of one may still be read when the next is planned; and where datasets have
    # speakers in common, of two that are looked ahead into.
    plans = 2 if len(config.data.urls) > 1 and config.data.same_speakers == "joined" else 1
    held = plans * 2 * given.lanes * given.shards + _HELD_BESIDES
    near = partial(folder_on_node, config.data)
    crcs = config.data.verify == "crops"
    opened = swiftly(url, partial(open_shardwise, url, held=held, block_crcs=crcs, near=near))
    storage.opened(url, opened.digest)  # which a fork may have been told alone
    return opened


def _by_windows(config: Config, catalogue: ShardwiseCatalogue, excluded: Int64Array) -> Dataset:
    given = config.data.windows
    speeds = Speeds.of(config.augment.speed, len(catalogue), len(catalogue.speakers))
    sieve = Sieve.of(catalogue, excluded)

    def plan(spec: BatchSpec, anchor: Anchor | None, taken: Taken | None) -> WindowedBatches:
        speakers = len(catalogue.speakers) * len(speeds.factors)
        windows = Windows(len(catalogue.shard_urls), given.lanes, given.shards, spec.plan_seed)
        return WindowedBatches(
            _AtEverySpeed(catalogue, speeds, sieve), speakers, spec, windows, anchor, taken
        )

    return Dataset(catalogue, speeds, plan, excluded, sieve.emptied)


def configure_storage(config: DataConfig) -> None:
    """Give all storage of this process the patience that data.storage asks for.

    A process that is to fork readers asks storage in a way that they survive, before it asks for anything.
    """
    patience = config.storage
    share_heaps()  # before threads that ask storage have theirs, which forked readers would inherit
    if config.workers:
        storage.keep_forkable()
    storage.configure(
        storage.StoragePolicy(
            attempts=patience.attempts,
            first_wait_s=patience.first_wait,
            connect_timeout_s=patience.connect_timeout,
            read_timeout_s=patience.read_timeout,
            connections=patience.connections,
        )
    )


def tell_of_slow_client(config: Config) -> None:
    """Log that remote data is read by the slower client, where that is so; for once in a run."""
    slow = [url for url in _places(config) if storage.lacks_obstore(url)]
    if slow:
        logger.warning(
            "%s is read by fsspec, at a tenth of the speed of obstore, which is not installed: pip install"
            " 'voxshard[s3]'",
            slow[0],
        )


def _places(config: Config) -> list[str]:
    """Where all that a batch is made of lies."""
    sections = [getattr(config.augment, kind) for kind in SOURCES]
    return [*config.data.urls, *(section.url for section in sections if section.url is not None)]


class _AtEverySpeed:
    """A catalogue as batches by windows see it."""

    def __init__(self, catalogue: ShardwiseCatalogue, speeds: Speeds, sieve: Sieve) -> None:
        self._catalogue = catalogue
        self._speeds = speeds
        self._sieve = sieve

    def window(self, lanes: Sequence[Int64Array]) -> WindowUtterances:
        catalogue, speeds = self._catalogue, self._speeds
        catalogue.hold(np.concatenate(lanes).tolist())
        each = [self._sieve.left(catalogue.rows(shards)) for shards in lanes]
        # A lane's rows at the first speed, then at the next: as if each speed were a recording of its own.
        number = np.concatenate([speeds.numbers(rows) for rows in each])
        original = speeds.split(number)[1]
        found = WindowUtterances(
            number=number,
            label=np.concatenate([speeds.labels(catalogue.label[rows]) for rows in each]),
            length=np.concatenate([speeds.frames(catalogue.frames[rows]) for rows in each]),
            lane=np.repeat(np.arange(len(each)), [len(rows) * len(speeds.factors) for rows in each]),
            turn=catalogue.turn[original].astype(np.int64),
            total=catalogue.total[original].astype(np.int64),
        )
        return self._sieve.recounted(found, catalogue.label[original])


def build_plan(data: TrainingData, config: Config, anchor: Anchor | None = None) -> BatchPlan:
    """The plan of the run; anchor: where a run that goes on knows a window of its plan to begin."""
    spec = BatchSpec(
        speakers=config.batch.speakers,
        utterances_per_speaker=config.batch.utterances_per_speaker,
        crop=crop_length(config.data.longest_crop()),
        max_utterances_per_speaker=config.batch.max_utterances_per_speaker,
        seed=config.run.seed,
        leftover=config.batch.leftover,
        varying=config.data.longest_crop() - config.data.shortest_crop(),
    )
    return data.plan(spec, anchor)


def _reader(data: TrainingData, config: Config, processes_on_node: int, world: int) -> Reader:
    """The reader of the training shards, straight from where they lie or through the node's cache.

    Raises UserError when the cache cannot hold two windows of the shards that the node needs.
    """
    catalogue = data.table
    verify: Literal["crops", "none"] = "crops" if config.data.verify == "crops" else "none"
    if config.data.access == "direct":
        return Reader(catalogue, verify=verify)
    given = config.data.cache
    assert given.folder is not None
    capacity = int(given.capacity * 2**30)
    sizes = np.array(catalogue.shard_sizes)
    lanes = -(-config.data.windows.lanes * processes_on_node // world)
    largest = [np.sort(np.array(table.shard_sizes))[::-1] for table in data.tables]
    window = sum(int(each[: lanes * config.data.windows.shards].sum()) for each in largest)
    if config.data.order == "windows" and capacity < 2 * window:
        raise UserError(
            f"data.cache.capacity is {given.capacity:g} GiB, and this node's {lanes} lane(s) of "
            f"{config.data.windows.shards} shards{_of_each(data)} need up to {window / 2**30:.3g} GiB "
            "twice, one window in use and one on its way: raise the capacity or lower data.windows.shards"
        )
    cache = ShardCache(given.folder, capacity, verify=config.data.verify == "shards")
    return Reader(
        catalogue, CachedSource(cache, Mapped(range(len(sizes)), partial(_shard, catalogue))), verify
    )


def _shard(catalogue: UtteranceTable, shard: int) -> CachedShard:
    return CachedShard(
        catalogue.shard_urls[shard], catalogue.shard_sizes[shard], catalogue.shard_sha256[shard]
    )


def _of_each(data: TrainingData) -> str:
    return f" of each of {len(data.tables)} datasets" if len(data.tables) > 1 else ""


def build_stream(
    config: Config, data: TrainingData, plan: BatchPlan, rank: int, world: int, on_node: int
) -> Stream:
    """One rank's stream of batches; on_node: how many of the `world` ranks are on its node."""
    reader = _reader(data, config, on_node, world)
    return Stream(
        plan,
        CropLoader(reader, config.run.seed, data.speeds, config.data.on_error, data.excluded),
        build_augmenter(
            config.augment,
            frames=plan.spec.crop,
            seed=config.run.seed,
            data=config.data,
            eager=rank % on_node == 0,
        ),
        rank,
        world,
        ahead=_batches_ahead(config.data, plan.spec.size // world * plan.spec.crop, data.table.folders),
        remote=any(storage.local_path(url) is None for url in _places(config)),
    )


def _batches_ahead(config: DataConfig, samples: int, folders: Sequence[str]) -> int:
    """Batches that a worker reads ahead: none from local storage, else what data.ahead_mib holds.

    samples: in a batch of one rank; folders: where shards lie that are read.
    """
    if config.access == "cached" or all(storage.local_path(folder) is not None for folder in folders):
        return 0
    return max(1, (config.ahead_mib << 20) // (4 * samples))  # float32
