"""Reading shards through a cache: a byte source whose shards are local files while they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shard_tools.cache.cache import CachedShard, CacheError, ShardCache
from shard_tools.cache.locks import forget_after_fork
from shard_tools.cache.shard import ShardError
from shard_tools.dataset.lazy import Mapped
from shard_tools.read.source import LocalSource, RangeError
from shard_tools.storage import ReplacedError, StorageError


class CachedSource:
    """Shard i of `shards`, read from `cache`. Picklable; a copy, like a forked child's, holds nothing.

    It holds the window given to keep(), and what the latest fill() needed besides.
    """

    at_once = False  # a shard may have to be fetched

    def __init__(self, cache: ShardCache, shards: Sequence[CachedShard]) -> None:
        self.cache = cache
        self._shards = shards
        self._paths = Mapped(shards, cache.path)
        self._files: LocalSource
        self._held: set[int]
        self._lacking: dict[int, ShardError | StorageError]  # shards that could not be had, and why
        self._window: set[int]
        self._ahead: set[int]
        self.forget()
        forget_after_fork(self)

    def fill(self, shards: Sequence[int], offsets: Sequence[int], buffers: Sequence[memoryview]) -> None:
        """Fill each buffer from `offsets[i]` of shard `shards[i]`.

        Raises RangeError, also for a shard that cannot be had from storage, ReplacedError, and CacheError
        when the cache itself cannot serve: no room, or a folder or disk that does not take it.
        """
        needed = set(shards)
        if not needed <= self._held:
            self._hold_only(self._window | needed, shards)
        for position, shard in enumerate(shards):
            if shard in self._lacking:
                raise RangeError(position, str(self._lacking[shard])) from self._lacking[shard]
        try:
            self._files.fill(shards, offsets, buffers)
        except RangeError:
            # Perhaps somebody touched the folder: holding looks at the files, and fetches what is not whole.
            self._hold_only(set(), ())
            self._hold_only(self._window | needed, shards)
            self._files.fill(shards, offsets, buffers)

    def keep(self, shards: Sequence[int]) -> None:
        """Hold these shards, a window of the plan, after releasing all others.

        Raises CacheError as fill does. Shards that cannot be had are an error when they are read.
        """
        window = set(shards)
        size = sum(self._shards[shard].size for shard in window)
        if size > self.cache.capacity:
            raise CacheError(
                f"{self.cache.folder}: a window of {len(window)} shards has {size:,} bytes, the whole cache"
                f" {self.cache.capacity:,}; raise data.cache.capacity, or make the window smaller"
            )
        self._window = window
        self._lacking = {}  # a new window is a new chance
        self._hold_only(window, shards)

    def prefetch(self, shards: Sequence[int]) -> None:
        """Bring these ahead of need, in this order; the list replaces the one given before."""
        self.cache.cancel([self._shards[shard] for shard in self._ahead.difference(shards)])
        self._ahead = set(shards)
        self.cache.prefetch([self._shards[shard] for shard in shards])

    def forget(self) -> None:
        """Begin as a process that holds nothing; for forks and copies."""
        self._files = LocalSource(self._paths)
        self._held = set()
        self._lacking = {}
        self._window = set()
        self._ahead = set()

    def _hold_only(self, wanted: set[int], order: Sequence[int]) -> None:
        """Release what is not wanted, then hold what is, in the order given."""
        released = self._held - wanted
        if released:
            self._files = LocalSource(self._paths)  # an open file would keep its room on the disk
        for shard in released:
            self._held.discard(shard)
            self.cache.release(self._shards[shard])
        known = self._held | self._lacking.keys()
        new = [shard for shard in dict.fromkeys((*order, *sorted(wanted))) if shard not in known]
        if len(new) > 1:
            self.cache.prefetch([self._shards[shard] for shard in new], urgent=True)  # several at once
        for shard in new:
            try:
                self.cache.hold(self._shards[shard])
            except ReplacedError:  # no other utterance may stand in for what is now other audio
                raise
            except (ShardError, StorageError) as error:
                self._lacking[shard] = error
            else:
                self._held.add(shard)

    def __getstate__(self) -> dict[str, Any]:
        return {"cache": self.cache, "_shards": self._shards, "_paths": self._paths}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.forget()
        forget_after_fork(self)
