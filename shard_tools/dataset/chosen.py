"""Some utterances of a dataset by their keys, as columns: what is held grows with these alone.

Where a key lies only the indexes tell. They are read once, some at a time, and let go of: 1.3 ms of CPU for
each thousand utterances, shared out to a few processes where there are many.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from shard_tools import storage
from shard_tools.apart import apart
from shard_tools.arrays import Int64Array, UInt32Array
from shard_tools.audio import SAMPLE_RATE
from shard_tools.dataset.catalogue import checked_index, fetched, outside_speakers
from shard_tools.dataset.index import ShardIndex, pack_keys
from shard_tools.dataset.shardwise import ShardwiseCatalogue

_COLUMNS: dict[str, Any] = {
    "label": np.int32,
    "frames": np.int64,
    "codec": np.uint8,
    "offset": np.int64,
    "size": np.int64,
    "pcm_offset": np.int64,
}
WORTH_A_PROCESS = 500  # indexes

_Part = tuple[list[str], dict[str, npt.NDArray[Any]]]


class Chosen:
    """An UtteranceTable of utterances of another one, numbered anew, in its order.

    Where the frames of FLAC lie is not held: a crop costs its whole utterance. Others of a speaker are those
    that are held too.
    """

    flac = None
    has_block_crcs = False

    def __init__(self, whole: ShardwiseCatalogue, keys: Sequence[str], columns: dict[str, Any]) -> None:
        """keys: of each; columns: `shard` and what a Catalogue has, (keys,) each."""
        self.url, self.digest, self.folders = whole.url, whole.digest, whole.folders
        self.speakers, self.grown_from = whole.speakers, whole.grown_from
        self.shard_urls, self.shard_sizes = whole.shard_urls, whole.shard_sizes
        self.shard_sha256 = whole.shard_sha256
        self.rows = {key: row for row, key in enumerate(keys)}
        self._key_bytes, self._key_ends = pack_keys(keys)
        self.shard: npt.NDArray[np.int32] = columns["shard"]
        self.label: npt.NDArray[np.int32] = columns["label"]
        self.frames: Int64Array = columns["frames"]
        self.codec: npt.NDArray[np.uint8] = columns["codec"]
        self.offset: Int64Array = columns["offset"]
        self.size: Int64Array = columns["size"]
        self.pcm_offset: Int64Array = columns["pcm_offset"]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def hours(self) -> float:
        return int(self.frames.sum()) / SAMPLE_RATE / 3600

    def key(self, u: int) -> str:
        start = int(self._key_ends[u - 1]) if u else 0
        return self._key_bytes[start : int(self._key_ends[u])].tobytes().decode()

    def block_crcs(self, shard: int) -> UInt32Array:
        raise LookupError("checksums are not held")

    def others(self, u: int, *, elsewhere: bool) -> Int64Array:
        found = np.flatnonzero(self.label == self.label[u])
        return found[found != u]


def choose(whole: ShardwiseCatalogue, keys: Collection[str], processes: int = 1) -> Chosen:
    """The utterances of `keys` that are there. processes: that may be started, see the module.

    Raises StorageError, and UserError for an index that is not the manifest's.
    """
    wanted = {key.encode() for key in keys}
    shards = len(whole.shard_urls)
    share = max(-(-shards // processes), WORTH_A_PROCESS)
    parts = list(apart(partial(_part, whole, wanted, share), range(0, shards, share))) if wanted else []
    found = [key for part in parts for key in part[0]]
    columns = {
        name: np.concatenate([np.empty(0, kind), *(part[1][name] for part in parts if part[0])])
        for name, kind in (("shard", np.int32), *_COLUMNS.items())
    }
    return Chosen(whole, found, columns)


def all_keys(whole: ShardwiseCatalogue) -> Iterator[str]:
    """The keys of all utterances, in order."""
    for _, index in indexes_between(whole, 0, len(whole.shard_urls)):
        yield from index.keys()


def _part(whole: ShardwiseCatalogue, wanted: set[bytes], count: int, first: int) -> _Part:
    """The keys that are wanted, and the columns of their utterances, of shards [first, first + count)."""
    keys: list[str] = []
    pieces: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in (*_COLUMNS, "shard")}
    for shard, index in indexes_between(whole, first, min(first + count, len(whole.shard_urls))):
        blob, ends = index.key_bytes.tobytes(), index.key_ends.tolist()
        starts = [0, *ends[:-1]] if ends else []
        each = enumerate(zip(starts, ends, strict=True))
        rows = [row for row, (start, end) in each if blob[start:end] in wanted]
        if rows:
            keys += [index.key(row) for row in rows]
            for name in _COLUMNS:
                pieces[name].append(getattr(index, name)[rows])
            pieces["shard"].append(np.full(len(rows), shard, np.int32))
        if len(keys) == len(wanted):
            break
    return keys, {name: np.concatenate(own) for name, own in pieces.items() if own}


def indexes_between(whole: ShardwiseCatalogue, first: int, last: int) -> Iterator[tuple[int, ShardIndex]]:
    """Shard and index of each in [first, last); those of a store come while others are looked at."""
    entries = whole.entries
    urls = [storage.join(whole.url, entries[shard].index) for shard in range(first, last)]
    for shard, url, data in zip(range(first, last), urls, fetched(urls), strict=True):
        index = checked_index(entries[shard], url, data, len(entries))
        outside_speakers(index.label, whole.speakers, url)
        yield shard, index
