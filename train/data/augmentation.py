"""Opening what crops are augmented with: noise and rooms, from where they lie or from the node's copies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from shard_tools import storage
from shard_tools.apart import swiftly
from shard_tools.arrays import Int64Array
from shard_tools.cache.copied_source import CopiedSource
from shard_tools.cache.copies import NodeCopies
from shard_tools.cache.shard import CachedShard
from shard_tools.dataset.by_size import open_by_size
from shard_tools.dataset.catalogue import Catalogue
from shard_tools.dataset.near import Near
from shard_tools.dataset.shardwise import ShardwiseCatalogue
from shard_tools.dataset.survey import FramesOf, SpeakerRows, survey
from shard_tools.errors import UserError
from shard_tools.read.reader import Reader
from shard_tools.workers import share_of_processors
from train.augment import SOURCES, Augmenter, Recipe
from train.augment.device import Preparer
from train.augment.recordings import Recordings
from train.augment.sections import AugmentConfig
from train.config.sections import DataConfig
from train.data.copies import folder_on_node, open_copies

# Recordings of a set that is opened whole: 180 MiB. Of a larger one the indexes are read as clips are drawn,
# each 0.2 MB, so that it is slow where clips lie far apart; and all of them once on each node for what only
# they tell: the shards of a category, and the longest of the rooms.
_HELD_WHOLE = 2_000_000
_HELD = 256  # indexes of such a set
_COPIED = 20_000  # shards that are brought to a node, at most, of a category of such a set


@dataclass(frozen=True, eq=False)
class _Source:
    """What a kind of augmentation takes: rows (recordings,) of a catalogue, None for all.

    longest: audio frames, where it is asked for and no column has it.
    """

    catalogue: Catalogue | ShardwiseCatalogue
    rows: Int64Array | SpeakerRows | None
    longest: int | None = None

    def __len__(self) -> int:
        return len(self.catalogue if self.rows is None else self.rows)

    def shards(self) -> list[CachedShard]:
        """Those that hold its recordings; none where they are too many to be copied."""
        opened = self.catalogue
        if self.rows is None:
            return []
        own = self.rows.shards if isinstance(self.rows, SpeakerRows) else np.unique(opened.shard[self.rows])
        if isinstance(self.rows, SpeakerRows) and len(own) > _COPIED:
            return []
        return [
            CachedShard(opened.shard_urls[shard], opened.shard_sizes[shard], opened.shard_sha256[shard])
            for shard in own.tolist()
        ]

    @property
    def frames(self) -> Any:
        if self.rows is None:
            return self.catalogue.frames
        if isinstance(self.rows, SpeakerRows):
            assert isinstance(self.catalogue, ShardwiseCatalogue)
            return FramesOf(self.catalogue, self.rows)
        return self.catalogue.frames[self.rows]


def build_augmenter(
    config: AugmentConfig, *, frames: int, seed: int, data: DataConfig | None = None, eager: bool = True
) -> Augmenter | Preparer | None:
    """The augmenter for crops of up to `frames` audio frames, or None where nothing would be done to any.

    With augment.device model it is the workers' half, a Preparer. data: says where remote recordings are
    copied to by default, None: nowhere; eager: whether the first to do so are this process's.
    """
    opened: dict[str, Catalogue | ShardwiseCatalogue] = {}
    found: dict[str, _Source] = {}
    sections = {kind: getattr(config, kind) for kind in SOURCES}
    near = None if data is None else partial(folder_on_node, data)
    for kind, section in sections.items():
        if section.url is None or (section.weight == 0 and config.chained.weight == 0):
            continue
        if section.url not in opened:
            opened[section.url] = _open(section.url, near)
        found[kind] = _source(kind, opened[section.url], section.category, near)
    if not found and not config.telephone.probability:
        return None
    if "babble" in found and len(found["babble"]) < config.babble.clips[1]:
        raise UserError(
            f"augment.babble.clips asks for up to {config.babble.clips[1]} different recordings, and "
            f"augment.babble.url {config.babble.url} offers {len(found['babble'])}: "
            "lower the one or extend the other"
        )
    remote = {kind: each.shards() for kind, each in found.items() if data and _is_remote(each.catalogue.url)}
    copies = open_copies(config.copy, data, list(remote.values()), eager=eager) if data else None
    sources = {
        kind: _recordings(source, copies if kind in remote else None) for kind, source in found.items()
    }
    recipe = Recipe(
        weights={kind: getattr(config, kind).weight for kind in ("none", "chained", *sources)},
        snr={"music": config.music.snr, "babble": config.babble.snr, "noise": config.noise.snr},
        clips={"babble": config.babble.clips},
        recordings={kind: len(source) for kind, source in sources.items()},
        telephone=config.telephone.probability,
        laws=tuple(config.telephone.laws),
    )
    kind_of = Preparer if config.device == "model" else Augmenter
    return kind_of(recipe, sources, frames=frames, seed=seed, cache_bytes=config.cache_mib << 20)


def _open(url: str, near: Near | None) -> Catalogue | ShardwiseCatalogue:
    opened = swiftly(url, partial(open_by_size, url, whole=_HELD_WHOLE, held=_HELD, near=near))
    storage.opened(url, opened.digest)  # which a fork may have been told alone
    return opened


def _source(
    kind: str, catalogue: Catalogue | ShardwiseCatalogue, category: str | None, near: Near | None
) -> _Source:
    label = None
    if category is not None and category in catalogue.speakers:
        label = catalogue.speakers.index(category)
    if isinstance(catalogue, ShardwiseCatalogue) and (label is not None or category is None):
        if label is None and kind != "reverberation":  # whose longest recording is looked for
            return _Source(catalogue, None)
        found = survey(catalogue, label, processes=share_of_processors(), near=near)
        rows = None if label is None else SpeakerRows(catalogue, label, found.counts)
        return _Source(catalogue, rows, found.longest)
    if category is None:
        return _Source(catalogue, np.arange(len(catalogue), dtype=np.int64))
    if label is not None:
        assert isinstance(catalogue, Catalogue)
        return _Source(catalogue, np.flatnonzero(catalogue.label == label))
    raise UserError(
        f"augment.{kind}.category is {category!r}, and {catalogue.url} has the categories "
        f"{', '.join(catalogue.speakers[:10])}{', …' if len(catalogue.speakers) > 10 else ''}"
    )


def _is_remote(url: str) -> bool:
    """Whether it lies neither on this machine's file systems nor in its memory."""
    return storage.local_path(url) is None and not url.startswith("memory:")


def _recordings(source: _Source, copies: NodeCopies | None) -> Recordings:
    catalogue = source.catalogue
    reader = Reader(catalogue)
    if copies is not None:
        reader = Reader(catalogue, CopiedSource(reader.source, copies, catalogue.shard_sha256))
    return Recordings(reader, source.rows, source.frames, len(source), source.longest)
