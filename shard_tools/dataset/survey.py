"""What all indexes of a large set have to be read for, to draw from it without holding them: once for a node.

That is how many recordings of a speaker (a category of noise) each shard has, by which the n-th of them is
found in one index, and how long the longest is. Reading takes 1.3 ms of CPU for each thousand recordings,
shared out to a few processes; what is kept takes 8 bytes a shard.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from shard_tools.apart import apart, swiftly
from shard_tools.arrays import Int64Array
from shard_tools.dataset.chosen import WORTH_A_PROCESS, indexes_between
from shard_tools.dataset.near import Near, made_once
from shard_tools.dataset.shardwise import ShardwiseCatalogue
from shard_tools.errors import UserError

logger = logging.getLogger(__name__)

_PATIENCE_S = 900.0  # for another process that reads them


@dataclass(frozen=True, eq=False)
class Survey:
    """counts: recordings in each shard, int64 (shards,); longest: samples of the longest, 0 where none is."""

    counts: Int64Array
    longest: int


def survey(
    whole: ShardwiseCatalogue, speaker: int | None, *, processes: int = 1, near: Near | None = None
) -> Survey:
    """Of the recordings of a speaker, by label, or of all.

    processes: that may be started, see the module; near: gives a folder of this node where the result is kept
    for all of its processes; without one, or where it cannot be used, each reads. Raises StorageError, and
    UserError for an index that is not the manifest's.
    """
    made: list[Survey] = []  # which a disk that is full cannot keep

    def make() -> bytes:
        made.append(_counted(whole, speaker, processes))
        return _to_bytes(made[0], whole)

    if near is not None:
        with contextlib.suppress(OSError):
            name = f"survey-{whole.digest[:16]}-{'all' if speaker is None else speaker}.npz"
            path = made_once(_folder(near), name, make, partial(_is_whole, whole), _PATIENCE_S)
            found = _read(path, whole)
            if found is not None:
                return found
    return made[0] if made else _counted(whole, speaker, processes)


class SpeakerRows:
    """The utterances of a speaker, ascending; indexed by int64 (B,), which reads the indexes of these."""

    def __init__(self, whole: ShardwiseCatalogue, speaker: int, counts: Int64Array) -> None:
        """counts: of a Survey."""
        self._whole = whole
        self._speaker = speaker
        self._ends: Int64Array = np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def shards(self) -> Int64Array:
        """Those that have some."""
        return np.flatnonzero(np.diff(self._ends, prepend=0))

    def __getitem__(self, numbers: Int64Array) -> Int64Array:
        wanted = np.asarray(numbers, np.int64)
        flat = wanted.reshape(-1)
        shards = np.searchsorted(self._ends, flat, side="right")
        own = np.unique(shards)
        self._whole.hold(own.tolist())
        found = np.empty(len(flat), np.int64)
        for shard in own.tolist():
            here = shards == shard
            before = int(self._ends[shard - 1]) if shard else 0
            found[here] = self._whole.rows_of(shard, self._speaker)[flat[here] - before]
        return found.reshape(wanted.shape)


class FramesOf:
    """The samples of some rows of a set, as a column of these."""

    def __init__(self, whole: ShardwiseCatalogue, rows: SpeakerRows) -> None:
        self._whole = whole
        self._rows = rows

    def __getitem__(self, numbers: Int64Array) -> Int64Array:
        return self._whole.frames[self._rows[numbers]]


def _counted(whole: ShardwiseCatalogue, speaker: int | None, processes: int) -> Survey:
    shards = len(whole.shard_urls)
    logger.info("%s: the recordings of %d shards are counted, once on this node", whole.url, shards)
    share = max(-(-shards // processes), WORTH_A_PROCESS)
    work = partial(_part, whole, speaker, share)
    firsts = range(0, shards, share)
    parts = [swiftly(whole.url, partial(work, 0))] if len(firsts) == 1 else list(apart(work, firsts))
    return Survey(
        np.array([count for counts, _ in parts for count in counts], np.int64),
        max(longest for _, longest in parts),
    )


def _part(
    whole: ShardwiseCatalogue, speaker: int | None, count: int, first: int
) -> tuple[Sequence[int], int]:
    """What `Survey` has of the shards [first, first + count)."""
    counts, longest = [], 0
    for _, index in indexes_between(whole, first, min(first + count, len(whole.shard_urls))):
        frames = index.frames if speaker is None else index.frames[index.label == speaker]
        counts.append(len(frames))
        longest = max(longest, int(frames.max(initial=0)))
    return counts, longest


def _folder(near: Near) -> str:
    try:
        return near()
    except UserError as error:
        raise OSError(str(error)) from error


def _to_bytes(found: Survey, whole: ShardwiseCatalogue) -> bytes:
    file = io.BytesIO()
    digest = np.frombuffer(bytes.fromhex(whole.digest), np.uint8)
    np.savez(file, digest=digest, counts=found.counts, longest=np.int64(found.longest))
    return file.getvalue()


def _is_whole(whole: ShardwiseCatalogue, path: str) -> bool:
    return _read(path, whole) is not None


def _read(path: str, whole: ShardwiseCatalogue) -> Survey | None:
    """None where there is no whole one of this manifest."""
    try:
        with np.load(path, allow_pickle=False) as file:
            digest, counts, longest = file["digest"], file["counts"], int(file["longest"])
    except Exception:  # numpy's, zipfile's, zlib's, struct's: whatever damage leads to
        return None
    same = digest.tobytes().hex() == whole.digest
    if not same or counts.dtype != np.int64 or counts.shape != (len(whole.shard_urls),):
        return None
    return Survey(counts, longest)
