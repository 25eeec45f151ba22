"""Opening what the configuration names: shards for a plan and a reader, noise and rooms to augment with."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from eval.embed import crop_length
from shard_tools import storage
from shard_tools.cache.cache import CachedShard, ShardCache
from shard_tools.cache.source import CachedSource
from shard_tools.dataset.catalogue import Catalogue, open_catalogue
from shard_tools.dataset.shardwise import AnyCatalogue, ShardwiseCatalogue, open_shardwise
from shard_tools.errors import UserError
from shard_tools.read.reader import Reader
from train.augment import SOURCES, Augmenter, Recipe
from train.augment.augmenter import Source
from train.augment.device import Preparer
from train.augment.speed import Speeds
from train.config.sections import AugmentConfig, Config
from train.data.loading import CropLoader
from train.data.pipeline import Stream
from train.plan import Anchor, BatchPlan, BatchSpec, Plan, WindowedPlan, Windows

# Besides those of two windows: shards that substitutes come from.
_HELD_BESIDES = 16


def open_training_data(config: Config) -> AnyCatalogue:
    """The catalogue of the training shards, asked for with the configured patience.

    By windows its indexes are read as the windows need them; by the epoch all of them now.
    """
    patience = config.data.storage
    storage.configure(
        storage.StoragePolicy(
            attempts=patience.attempts,
            first_wait_s=patience.first_wait,
            connect_timeout_s=patience.connect_timeout,
            read_timeout_s=patience.read_timeout,
            connections=patience.connections,
        )
    )
    block_crcs = config.data.verify == "crops"
    if config.data.order != "windows":
        return open_catalogue(config.data.url, block_crcs=block_crcs)
    given = config.data.windows
    # Of two, because batches of one may still be read when the next is planned.
    held = 2 * given.lanes * given.shards + _HELD_BESIDES
    return open_shardwise(config.data.url, held=held, block_crcs=block_crcs)


def _speeds(config: Config, catalogue: AnyCatalogue) -> Speeds:
    return Speeds.of(config.augment.speed, len(catalogue), len(catalogue.speakers))


def count_speakers(catalogue: AnyCatalogue, config: Config) -> int:
    """How many speakers there are to tell apart: each at every speed."""
    return len(catalogue.speakers) * len(_speeds(config, catalogue).factors)


class _Columns:
    """A catalogue as a windowed plan sees it: at every speed, shard by shard."""

    def __init__(self, catalogue: ShardwiseCatalogue, speeds: Speeds) -> None:
        self._catalogue = catalogue
        self._speeds = speeds

    def prepare(self, shards: npt.NDArray[np.int64]) -> None:
        self._catalogue.hold(shards.tolist())

    def of(
        self, shards: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        rows = self._catalogue.rows(shards)
        return (
            self._speeds.numbers(rows),
            self._speeds.labels(self._catalogue.label[rows]),
            self._speeds.frames(self._catalogue.frames[rows]),
        )

    def turns(self, utterances: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        original = self._speeds.split(utterances)[1]
        turn, total = self._catalogue.turn[original], self._catalogue.total[original]
        return turn.astype(np.int64), total.astype(np.int64)


def build_plan(catalogue: AnyCatalogue, config: Config, anchor: Anchor | None = None) -> Plan | WindowedPlan:
    """The plan of the run, in the order that the catalogue was opened for.

    anchor: where a run that goes on knows a window of its plan to begin.
    """
    speeds = _speeds(config, catalogue)
    speakers = count_speakers(catalogue, config)
    spec = BatchSpec(
        speakers=config.batch.speakers,
        utterances_per_speaker=config.batch.utterances_per_speaker,
        crop=crop_length(config.data.crop_frames),
        max_utterances_per_speaker=config.batch.max_utterances_per_speaker,
        seed=config.run.seed,
        leftover=config.batch.leftover,
    )
    if isinstance(catalogue, Catalogue):
        return Plan(speeds.labels(catalogue.label), speeds.frames(catalogue.frames), speakers, spec)
    given = config.data.windows
    windows = Windows(len(catalogue.shard_urls), given.lanes, given.shards, config.run.seed)
    return WindowedPlan(_Columns(catalogue, speeds), speakers, spec, windows, anchor)


def _reader(catalogue: AnyCatalogue, config: Config, processes_on_node: int, world: int) -> Reader:
    """The reader of the training shards, straight from where they lie or through the node's cache.

    Raises UserError when the cache cannot hold two windows of the shards that the node needs.
    """
    verify: Literal["crops", "none"] = "crops" if config.data.verify == "crops" else "none"
    if config.data.access == "direct":
        return Reader(catalogue, verify=verify)
    given = config.data.cache
    assert given.folder is not None
    capacity = int(given.capacity * 2**30)
    sizes = np.array(catalogue.shard_sizes)
    lanes = -(-config.data.windows.lanes * processes_on_node // world)
    window = int(np.sort(sizes)[::-1][: lanes * config.data.windows.shards].sum())
    if config.data.order == "windows" and capacity < 2 * window:
        raise UserError(
            f"data.cache.capacity is {given.capacity:g} GiB, and this node's {lanes} lane(s) of "
            f"{config.data.windows.shards} shards need up to {window / 2**30:.3g} GiB twice, one "
            "window in use "
            "and one on its way: raise the capacity or lower data.windows.shards"
        )
    cache = ShardCache(given.folder, capacity, verify=config.data.verify == "shards")
    shards = [
        CachedShard(url, int(size), digest)
        for url, size, digest in zip(catalogue.shard_urls, sizes, catalogue.shard_sha256, strict=True)
    ]
    return Reader(catalogue, CachedSource(cache, shards), verify)


def build_stream(
    config: Config, catalogue: AnyCatalogue, plan: BatchPlan, rank: int, world: int, on_node: int
) -> Stream:
    """One rank's stream of batches; on_node: how many of the `world` ranks are on its node."""
    speeds = _speeds(config, catalogue)
    reader = _reader(catalogue, config, on_node, world)
    return Stream(
        plan,
        CropLoader(reader, plan.spec.crop, config.run.seed, speeds, config.data.on_error),
        build_augmenter(config.augment, frames=plan.spec.crop, seed=config.run.seed),
        rank,
        world,
        ahead=_batches_ahead(config, catalogue, plan.spec.size // world, plan.spec.crop),
    )


def _batches_ahead(config: Config, catalogue: AnyCatalogue, rows: int, crop: int) -> int:
    """Batches that a worker reads ahead: none from local storage, else what data.ahead_mib holds."""
    if config.data.access == "cached" or storage.local_path(catalogue.shard_urls[0]) is not None:
        return 0
    each = rows * crop * 4  # float32
    return max(1, (config.data.ahead_mib << 20) // each)


def build_augmenter(config: AugmentConfig, *, frames: int, seed: int) -> Augmenter | Preparer | None:
    """The augmenter for crops of `frames` audio frames, or None when no section has a url and a weight.

    With augment.device model it is the workers' half, a Preparer.
    """
    opened: dict[str, Catalogue] = {}
    sources: dict[str, Source] = {}
    for kind in SOURCES:
        section = getattr(config, kind)
        if section.url is None or (section.weight == 0 and config.chained.weight == 0):
            continue
        if section.url not in opened:
            opened[section.url] = open_catalogue(section.url)
        sources[kind] = _source(kind, opened[section.url], section.category)
    if not sources:
        return None
    if "babble" in sources and len(sources["babble"]) < config.babble.clips[1]:
        raise UserError(
            f"augment.babble.clips asks for up to {config.babble.clips[1]} different recordings, and "
            f"augment.babble.url {config.babble.url} offers {len(sources['babble'])}: "
            "lower the one or extend the other"
        )
    recipe = Recipe(
        weights={kind: getattr(config, kind).weight for kind in ("none", "chained", *sources)},
        snr={"music": config.music.snr, "babble": config.babble.snr, "noise": config.noise.snr},
        clips={"babble": config.babble.clips},
        recordings={kind: len(source) for kind, source in sources.items()},
    )
    kind_of = Preparer if config.device == "model" else Augmenter
    return kind_of(recipe, sources, frames=frames, seed=seed, cache_bytes=config.cache_mib << 20)


def _source(kind: str, catalogue: Catalogue, category: str | None) -> Source:
    if category is None:
        rows = np.arange(len(catalogue), dtype=np.int64)
    elif category in catalogue.speakers:
        label = catalogue.speakers.index(category)
        rows = np.flatnonzero(catalogue.label == label)
    else:
        raise UserError(
            f"augment.{kind}.category is {category!r}, and {catalogue.url} has the categories "
            f"{', '.join(catalogue.speakers[:10])}{', …' if len(catalogue.speakers) > 10 else ''}"
        )
    return Source(Reader(catalogue), rows, catalogue.frames[rows])
