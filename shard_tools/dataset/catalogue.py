"""A manifest and all its indexes as columns: every utterance of a dataset, a row each."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools import storage
from shard_tools.ahead import ahead
from shard_tools.apart import apart, swiftly
from shard_tools.arrays import Int32Array, Int64Array, UInt32Array
from shard_tools.audio import SAMPLE_RATE
from shard_tools.audio.flac_frames import FrameTables
from shard_tools.dataset import index as index_file
from shard_tools.dataset import manifest as manifest_file
from shard_tools.errors import UserError

# Indexes held as bytes at once while they are turned into columns.
_INDEXES_AT_ONCE = 64
_WORTH_A_PROCESS = 100  # indexes, which take half a second from a store


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Utterance u is row u of every column; rows are in shard order and within a shard in the tar's order.

    url: the dataset's folder; manifest: its manifest; digest: SHA-256 (hex) of the bytes of manifest.json;
    speakers: label order; shard_urls: absolute; shard_sizes: bytes; shard_sha256: hex;
    shard: int32 (N,), index into shard_urls; label: int32 (N,); frames: int64 (N,), PCM sample frames;
    codec: uint8 (N,), 0 = 16-bit PCM WAV, 1 = FLAC;
    offset, size: int64 (N,), bytes of the audio member's data in the tar;
    pcm_offset: int64 (N,), offset in the tar of the first PCM frame, -1 for FLAC;
    key_bytes: uint8, the keys' UTF-8 one after the other; key_ends: int64 (N,), where each ends;
    block_crc32: uint32, CRC-32 of each index.BLOCK_SIZE bytes of each shard, shard after shard (a shard's
    last block may be shorter), or None: they take 0.05 % of the data's size in memory;
    flac: where the frames of FLAC streams lie, 0.1 % of their size in memory, or None.
    """

    url: str
    manifest: manifest_file.Manifest
    digest: str
    speakers: tuple[str, ...]
    shard_urls: tuple[str, ...]
    shard_sizes: tuple[int, ...]
    shard_sha256: tuple[str, ...]
    shard: Int32Array
    label: Int32Array
    frames: Int64Array
    codec: npt.NDArray[np.uint8]
    offset: Int64Array
    size: Int64Array
    pcm_offset: Int64Array
    key_bytes: npt.NDArray[np.uint8]
    key_ends: Int64Array
    block_crc32: UInt32Array | None = None
    flac: FrameTables | None = None
    _lookup: dict[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.label)

    def key(self, u: int) -> str:
        """The key of utterance `u`."""
        start = int(self.key_ends[u - 1]) if u else 0
        return self.key_bytes[start : int(self.key_ends[u])].tobytes().decode()

    def find(self, key: str) -> int | None:
        """The utterance with this key, or None. The first call sorts hashes of all keys (8 bytes a key)."""
        if "order" not in self._lookup:
            hashes = self._key_hashes()
            order = np.argsort(hashes, kind="stable").astype(np.int32)
            self._lookup.update(order=order, hashes=hashes[order])
        wanted = np.uint32(zlib.crc32(key.encode()))
        hashes, order = self._lookup["hashes"], self._lookup["order"]
        place = int(np.searchsorted(hashes, wanted))
        while place < len(hashes) and hashes[place] == wanted:
            u = int(order[place])
            if self.key(u) == key:
                return u
            place += 1
        return None

    def find_all(self, keys: Collection[str]) -> dict[str, int]:
        """The utterance of each of `keys` that is there."""
        found = ((key, self.find(key)) for key in keys)
        return {key: u for key, u in found if u is not None}

    def others(self, u: int, *, elsewhere: bool) -> Int64Array:
        """All other utterances of the speaker of `u`. The first call sorts all by speaker (8 bytes each)."""
        if "by_label" not in self._lookup:
            counts = np.bincount(self.label, minlength=len(self.speakers))
            by_label, first = np.argsort(self.label, kind="stable"), np.concatenate([[0], np.cumsum(counts)])
            self._lookup.update(by_label=by_label, first_of_label=first)
        label, first = int(self.label[u]), self._lookup["first_of_label"]
        own: Int64Array = self._lookup["by_label"][first[label] : first[label + 1]]
        return own[own != u]

    @property
    def folders(self) -> tuple[str, ...]:
        return (self.url,)

    @property
    def grown_from(self) -> dict[str, int]:
        return self.manifest.grown_from

    @property
    def hours(self) -> float:
        return int(self.frames.sum()) / SAMPLE_RATE / 3600

    @property
    def has_block_crcs(self) -> bool:
        return self.block_crc32 is not None

    def block_crcs(self, shard: int) -> UInt32Array:
        """The CRC-32 of each block of a shard; the catalogue must have been opened with block_crcs."""
        assert self.block_crc32 is not None
        return self.block_crc32[self._first_blocks[shard] : self._first_blocks[shard + 1]]

    @cached_property
    def _first_blocks(self) -> list[int]:
        blocks = (-(-size // index_file.BLOCK_SIZE) for size in self.shard_sizes)
        first: list[int] = np.cumsum([0, *blocks]).tolist()
        return first

    def _key_hashes(self) -> UInt32Array:
        blob = self.key_bytes.tobytes()
        ends = self.key_ends.tolist()
        crc32 = zlib.crc32
        starts = [0, *ends[:-1]] if ends else []
        hashes = (crc32(blob[start:end]) for start, end in zip(starts, ends, strict=True))
        return np.fromiter(hashes, np.uint32, len(ends))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lookup": {}}


def open_catalogue(
    url: str,
    *,
    block_crcs: bool = False,
    flac_frames: bool = True,
    processes: int = 1,
    manifest: bytes | None = None,
) -> Catalogue:
    """Read manifest.json and every index below `url`.

    block_crcs: keep the blocks' checksums, for a Reader that verifies crops; flac_frames: keep
    where FLAC frames lie, without which a crop costs the whole utterance; processes: that are started to read
    the indexes of a large remote set, which may use the store's fastest client; 1: this one reads them;
    manifest: the bytes of manifest.json, where they have been read.

    Raises StorageError when one cannot be read, and UserError when the manifest is
    of another format or version or an index is not the one that it names.
    """
    manifest_url = storage.join(url, manifest_file.NAME)
    names = ["label", "frames", "codec", "offset", "size", "pcm_offset", "key_bytes", "key_ends"]
    names += ["block_crc32"] * block_crcs + ["flac_block", "flac_offset"] * flac_frames
    data, found, parts = swiftly(url, partial(_read, url, names, processes, manifest))
    shards = len(found.shards)
    if not parts:
        share = -(-shards // processes)
        read = partial(_columns, url, found.shards, names, share)
        parts = list(apart(read, range(0, shards, share)))
    ends = np.cumsum([0, *(len(part["key_bytes"]) for part in parts)])
    for part, before in zip(parts, ends, strict=False):
        part["key_ends"] = part["key_ends"] + before
    columns: dict[str, Any] = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    outside_speakers(columns["label"], found.speakers, manifest_url)
    if flac_frames:
        block, frame_offset = columns.pop("flac_block"), columns.pop("flac_offset")
        if len(frame_offset):
            columns["flac"] = FrameTables.of(block, frame_offset, columns["frames"])
    digest = hashlib.sha256(data).hexdigest()
    storage.opened(url, digest)
    return Catalogue(
        url=url,
        manifest=found,
        digest=digest,
        speakers=found.speakers,
        shard_urls=tuple(storage.join(url, entry.url) for entry in found.shards),
        shard_sizes=tuple(entry.filesize for entry in found.shards),
        shard_sha256=tuple(entry.sha256 for entry in found.shards),
        **columns,
    )


def _read(
    url: str, names: Sequence[str], processes: int, data: bytes | None
) -> tuple[bytes, manifest_file.Manifest, list[dict[str, npt.NDArray[Any]]]]:
    """The manifest, its bytes, and these columns of all shards, unless it is worth sharing them out."""
    manifest_url = storage.join(url, manifest_file.NAME)
    data = read_manifest(manifest_url) if data is None else data
    manifest = manifest_file.from_bytes(data, manifest_url)
    shards = len(manifest.shards)
    if processes > 1 and storage.local_path(url) is None and shards >= processes * _WORTH_A_PROCESS:
        return data, manifest, []
    return data, manifest, [_columns(url, manifest.shards, names, shards, 0)]


def _columns(
    url: str, shards: Sequence[manifest_file.ShardEntry], names: Sequence[str], count: int, first: int
) -> dict[str, npt.NDArray[Any]]:
    """These columns, and `shard`, of the shards [first, first + count), from their indexes."""
    some = range(len(shards))[first : first + count]
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in (*names, "shard")}
    key_total = 0
    urls = [storage.join(url, shards[number].index) for number in some]
    for number, index_url, data in zip(some, urls, fetched(urls), strict=True):
        index = checked_index(shards[number], index_url, data, len(shards))
        for name in names:
            parts[name].append(getattr(index, name))
        parts["key_ends"][-1] = index.key_ends + key_total
        parts["shard"].append(np.full(len(index), number, np.int32))
        key_total += len(index.key_bytes)
    return {name: np.concatenate(pieces) for name, pieces in parts.items()}


def fetched(urls: Sequence[str]) -> Iterator[bytes]:
    """The bytes of small objects in one folder; those of a store come while others are looked at."""
    some = [urls[first : first + _INDEXES_AT_ONCE] for first in range(0, len(urls), _INDEXES_AT_ONCE)]
    depth = 0 if storage.local_path(urls[0]) is not None else 1
    return chain.from_iterable(ahead(some, storage.read_many, depth))


def outside_speakers(labels: Int32Array, speakers: Sequence[str], name: str) -> None:
    """UserError when a label is of no speaker. `name` is for the message."""
    if len(labels) and not (int(labels.min()) >= 0 and int(labels.max()) < len(speakers)):
        raise UserError(f"{name}: an index has labels outside the {len(speakers)} speakers; pack again")


def checked_index(
    entry: manifest_file.ShardEntry, index_url: str, data: bytes, shards: int
) -> index_file.ShardIndex:
    """The index in `data`, which must be the one that the manifest's entry names; else UserError.

    shards: how many the manifest has.
    """
    found = hashlib.sha256(data).hexdigest()
    if found != entry.index_sha256:
        raise UserError(
            f"{index_url}: SHA-256 is {found[:12]}…, the manifest says {entry.index_sha256[:12]}…:"
            " damaged, or from another packing; pack again"
        )
    index = index_file.from_bytes(data, index_url)
    if (len(index), index.shard_size, index.shard_sha256) != (entry.nsamples, entry.filesize, entry.sha256):
        raise UserError(f"{index_url}: describes another shard than the manifest does; pack again")
    frames = int(index.frames.sum())
    if frames != entry.frames:
        raise UserError(
            f"{index_url}: its utterances have {frames} frames, the manifest says {entry.frames}; pack again"
        )
    if int(index.next_shard.max()) >= shards:
        raise UserError(
            f"{index_url}: next_shard is {int(index.next_shard.max())}, of {shards} shards; pack again"
        )
    blocks = -(-index.shard_size // index_file.BLOCK_SIZE)
    if index.block_size != index_file.BLOCK_SIZE or len(index.block_crc32) != blocks:
        raise UserError(
            f"{index_url}: {len(index.block_crc32)} checksums of blocks of {index.block_size} bytes, and not"
            f" {blocks} of {index_file.BLOCK_SIZE}; index the shards again"
        )
    return index


def read_manifest(manifest_url: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of manifest.json, or a range of them; MissingError with advice when it is not there."""
    try:
        return storage.read_bytes(manifest_url, start, end)
    except storage.MissingError as error:
        if error.bucket:
            raise
        raise storage.MissingError(
            f"{manifest_url}: does not exist; check the URL, or make the shards with make-shards pack (an"
            " interrupted one publishes its manifest when it is run again)"
        ) from error
