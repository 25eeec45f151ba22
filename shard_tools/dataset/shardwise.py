"""A catalogue that reads the index of a shard when it is asked for, and forgets it again.

Opening costs reading the manifest, and parsing it where no table of it lies beside it. What is held is a
bounded number of indexes, so that nothing grows with the number of utterances but 16 bytes a shard; names and
what else the manifest says are looked up in the table, which the processes of a node share.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools import deputy, storage
from shard_tools.arrays import Int64Array, UInt32Array
from shard_tools.audio.flac_frames import FrameTables, Piece
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.catalogue import checked_index, outside_speakers, read_manifest
from shard_tools.dataset.gathered import GatheredColumn, ShardColumn
from shard_tools.dataset.index import ShardIndex
from shard_tools.dataset.lazy import Mapped, require_below
from shard_tools.dataset.manifest_table import ManifestTable, open_table
from shard_tools.dataset.near import Near

_COLUMNS = ("label", "turn", "total", "frames", "codec", "offset", "size", "pcm_offset")
_PARSED = 4 * 2**20  # bytes of a manifest that is read as it is, in less time than its table would take
_ABSENT = -(1 << 62)  # negative whatever row is added to it


class ShardwiseCatalogue:
    """The utterances of a Catalogue with the same numbers, attributes and columns; what differs is below.

    A column, indexed by int64 (B,) or by an int, gives what the Catalogue's would, and reads the
    indexes of those shards that are not held. turn, total: int32, see layout.Places. Threads may
    share it. Indexing raises StorageError, and UserError for an index that is not the manifest's.

    held: shards whose indexes are kept, the latest that hold() or a lack of them asked for, unless
    a single request needs more; reads: indexes read so far.
    """

    _gathered: _Gathered | None

    def __init__(self, url: str, manifest: ManifestTable, *, held: int, block_crcs: bool) -> None:
        self.url = url
        self.folders = (url,)
        self.digest = manifest.digest
        self.speakers = manifest.speakers
        self.grown_from = manifest.grown_from
        self.hours = manifest.hours
        self.shard_urls = Mapped(manifest.shard_names, partial(_below, url))
        self.shard_sizes = manifest.sizes
        self.shard_sha256 = manifest.sha256
        self.has_block_crcs = block_crcs
        self.held = held
        self.reads = 0
        self.label: GatheredColumn[np.int32] = GatheredColumn(self, "label")
        self.turn: GatheredColumn[np.int32] = GatheredColumn(self, "turn")
        self.total: GatheredColumn[np.int32] = GatheredColumn(self, "total")
        self.frames: GatheredColumn[np.int64] = GatheredColumn(self, "frames")
        self.codec: GatheredColumn[np.uint8] = GatheredColumn(self, "codec")
        self.offset: GatheredColumn[np.int64] = GatheredColumn(self, "offset")
        self.size: GatheredColumn[np.int64] = GatheredColumn(self, "size")
        self.pcm_offset: GatheredColumn[np.int64] = GatheredColumn(self, "pcm_offset")
        self.shard = ShardColumn(self)
        self.flac = _Tables(self)
        self.entries = manifest.shards
        # row of each shard, and the end
        self._first = np.concatenate([[0], np.cumsum(manifest.counts, dtype=np.int64)])
        self._forget()

    def __len__(self) -> int:
        return int(self._first[-1])

    def key(self, u: int) -> str:
        """The key of utterance `u`."""
        part, row = self._locate(u)
        return part.index.key(row)

    def block_crcs(self, shard: int) -> UInt32Array:
        """The CRC-32 of each block of a shard; empty unless they were asked for at opening."""
        return self._part(shard).index.block_crc32

    def rows(self, shards: Int64Array) -> Int64Array:
        """The utterances of these shards, in order. Reads nothing."""
        ranges = [np.arange(self._first[shard], self._first[shard + 1]) for shard in shards]
        return np.concatenate(ranges) if ranges else np.empty(0, np.int64)

    def rows_of(self, shard: int, speaker: int) -> Int64Array:
        """The utterances of a speaker, by label, in one shard, ascending."""
        rows: Int64Array = self._first[shard] + np.flatnonzero(self._part(shard).index.label == speaker)
        return rows

    def hold(self, shards: Iterable[int]) -> None:
        """Read the indexes of these shards that are not held, at once."""
        with self._lock:
            wanted = list(dict.fromkeys(int(shard) for shard in shards))
            missing = [shard for shard in wanted if shard not in self._parts]
            entries = [self.entries[shard] for shard in missing]
            urls = [storage.join(self.url, entry.index) for entry in entries]
            parts = {}
            for shard, entry, index_url, data in zip(
                missing, entries, urls, deputy.read_many(urls), strict=True
            ):
                index = checked_index(entry, index_url, data, len(self.entries))
                outside_speakers(index.label, self.speakers, index_url)
                if not self.has_block_crcs:
                    index = replace(index, block_crc32=np.empty(0, np.uint32))
                parts[shard] = _Part(index, index.frame_tables())
            self.reads += len(parts)
            self._parts.update(parts)
            for shard in wanted:
                self._parts.move_to_end(shard)
            while len(self._parts) > max(self.held, len(wanted)):
                self._parts.popitem(last=False)
                self._gathered = None
            if parts:
                self._gathered = None

    def find_all(self, keys: Collection[str]) -> dict[str, int]:
        """The utterance of each of `keys` that is there. Reads the indexes of all shards, some at a time."""
        found: dict[str, int] = {}
        if not keys:
            return found
        with self._lock:
            for first in range(0, len(self.entries), self.held):
                some = range(first, min(first + self.held, len(self.entries)))
                self.hold(some)
                for shard in some:
                    begin = int(self._first[shard])
                    own = self._part(shard).index.keys()
                    found |= {key: begin + row for row, key in enumerate(own) if key in keys}
                if len(found) == len(keys):
                    break
        return found

    def others(self, u: int, *, elsewhere: bool) -> Int64Array:
        """Other utterances of the speaker of `u`: in its shard, or of the next shard that has some.

        elsewhere: go to the next shard even if its own has others. Empty when `u` is the only one.
        Costs at most one index that is not held besides that of `u`.
        """
        with self._lock:
            part, row = self._locate(u)
            label, own = int(part.index.label[row]), int(self.shard[u])
            found = self._first[own] + np.flatnonzero(part.index.label == label)
            found = found[found != u]
            following = int(part.index.next_shard[row])
            if following != own and (elsewhere or not len(found)):
                found = self._first[following] + np.flatnonzero(self._part(following).index.label == label)
            return found

    def shards_of(self, rows: Int64Array) -> Int64Array:
        return np.searchsorted(self._first, rows, side="right") - 1

    def gather(self, name: str, rows: Int64Array) -> npt.NDArray[Any]:
        shards = self.shards_of(rows)
        gathered = self._gathered  # another thread may replace it; the old one stays whole
        positions = rows + gathered.base[shards] if gathered is not None else None
        if gathered is None or positions is None or (len(rows) and int(positions.min()) < 0):
            with self._lock:
                self.hold(np.unique(shards).tolist())
                gathered = self._gathered = self._gathered or self._gather_all()
            positions = rows + gathered.base[shards]
        return gathered.columns[name][positions]

    @property
    def held_bytes(self) -> int:
        """Bytes of the indexes that are held, without the copy of their columns."""
        columns = [column for part in self._parts.values() for column in vars(part.index).values()]
        return sum(column.nbytes for column in columns if isinstance(column, np.ndarray))

    def _gather_all(self) -> _Gathered:
        base = np.full(len(self.entries), _ABSENT, np.int64)
        place = 0
        for shard, part in self._parts.items():
            base[shard] = place - self._first[shard]
            place += len(part.index)
        parts = [part.index for part in self._parts.values()]
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS}
        return _Gathered(base, columns)

    def _part(self, shard: int) -> _Part:
        part = self._parts.get(shard)
        if part is None:
            with self._lock:
                self.hold([shard])
                part = self._parts[shard]
        return part

    def _locate(self, u: int) -> tuple[_Part, int]:
        shard = int(np.searchsorted(self._first, u, side="right")) - 1
        return self._part(shard), u - int(self._first[shard])

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._parts: OrderedDict[int, _Part] = OrderedDict()
        self._gathered = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_lock", "_parts", "_gathered")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()


def open_shardwise(
    url: str, *, held: int, block_crcs: bool = False, near: Near | None = None, begun: bytes | None = None
) -> ShardwiseCatalogue:
    """Read manifest.json below `url`, and no index yet.

    held: shards whose indexes are kept in memory; block_crcs: keep their blocks' checksums too,
    for a Reader that verifies crops; near: see open_table; begun: what begin_manifest gave, where that has
    been asked for. Raises as open_catalogue does for the manifest.
    """
    manifest_url = storage.join(url, manifest_file.NAME)
    found = None
    data = begin_manifest(url) if begun is None else begun
    if not is_whole(data):
        found = open_table(url, _digest_of(manifest_url, data), near)
        if found is None:
            data = read_manifest(manifest_url)
    if found is None:
        manifest = manifest_file.from_bytes(data, manifest_url)
        found = ManifestTable.of(manifest, hashlib.sha256(data).hexdigest())
    storage.opened(url, found.digest)
    return ShardwiseCatalogue(url, found, held=held, block_crcs=block_crcs)


def begin_manifest(url: str) -> bytes:
    """The first bytes of manifest.json below `url`: of most sets all of it. Raises as read_manifest does."""
    return read_manifest(storage.join(url, manifest_file.NAME), 0, _PARSED)


def is_whole(begun: bytes) -> bool:
    """Whether what begin_manifest gave is all of it."""
    return len(begun) < _PARSED


def _digest_of(manifest_url: str, data: bytes) -> str:
    """The SHA-256 (hex) of what begins with `data`, read a part at a time."""
    digest, total = hashlib.sha256(data), storage.size(manifest_url)
    for start in range(len(data), total, _PARSED):
        digest.update(storage.read_bytes(manifest_url, start, min(start + _PARSED, total)))
    return digest.hexdigest()


def _below(url: str, name: str) -> str:
    return storage.join(url, require_below(name))


class _Tables:
    """The FrameTables of a ShardwiseCatalogue, as far as a Reader needs them."""

    def __init__(self, catalogue: ShardwiseCatalogue) -> None:
        self._catalogue = catalogue

    def piece(self, u: int, start: int, count: int, *, samples: int, size: int) -> Piece | None:
        """See FrameTables.piece."""
        part, row = self._catalogue._locate(u)
        return part.tables.piece(row, start, count, samples=samples, size=size)


@dataclass(frozen=True, eq=False)
class _Part:
    index: ShardIndex
    tables: FrameTables


@dataclass(frozen=True, eq=False)
class _Gathered:
    """The held shards' columns, end to end: row u of shard s is at base[s] + u."""

    base: Int64Array  # (shards,)
    columns: dict[str, npt.NDArray[Any]]
