"""Whole shards, brought once per node into a bounded folder that all its processes share.

Every process has a ShardCache of its own on the same folder; what they agree on lies
in the folder (shard_tools/cache/folder.py), so they may belong to several jobs.
"""

from __future__ import annotations

import atexit
import hashlib
import logging
import os
import random
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shard_tools import storage
from shard_tools.cache.answers import Busy, Claim, Full, Present
from shard_tools.cache.download import Downloader
from shard_tools.cache.folder import CacheFolder
from shard_tools.cache.locks import LockFile, forget_after_fork
from shard_tools.cache.prefetch import Prefetcher
from shard_tools.cache.shard import CachedShard, CacheError

__all__ = ["CacheError", "CachedShard", "ShardCache"]

logger = logging.getLogger(__name__)

_HASHED_AT_ONCE = 16 * 2**20  # bytes
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.2


@dataclass
class _Hold:
    file: LockFile
    count: int


class ShardCache:
    """This process's door to the cache folder. Picklable; a copy, like a forked child's, holds nothing.

    folder: on this machine's own disk, for nothing else; made when it is not there.
    capacity: bytes that all files of the folder may have, downloads under way included.
    wait: seconds without any progress after which holding a shard fails, where other
    processes' holds leave no room or another process's download does not get on.
    verify: compare the SHA-256 of what is downloaded, and of what lies there already.

    downloads, requests, fetched_bytes: what this process brought from storage.
    May be used by any number of threads.
    """

    def __init__(self, folder: str, capacity: int, *, wait: float = 300.0, verify: bool = True) -> None:
        path = storage.local_path(folder)
        if path is None:
            raise CacheError(
                f"{folder}: a cache folder lies on this machine's own disk; give data.cache.folder a path"
            )
        if capacity <= 0:
            raise CacheError(
                f"{folder}: a capacity of {capacity} bytes holds nothing; raise data.cache.capacity"
            )
        self.folder = os.path.abspath(path)
        self.capacity = capacity
        self._wait = wait
        self._verify = verify
        self._folder: CacheFolder
        self._downloader: Downloader
        self._prefetcher: Prefetcher
        self._mutex: threading.Lock  # guards the holds
        self._holds: dict[str, _Hold]
        self._hashed: set[tuple[str, int]]  # SHA-256 and inode of files that were found right
        self._register()

    def hold(self, shard: CachedShard) -> str:
        """The path of the whole, verified shard, which stays until release(); downloaded if need be.

        Holds are counted. Raises CacheError (no room, bytes that are not the manifest's, a
        folder or disk that cannot take it) and StorageError.
        """
        path = self._folder.path(shard)
        with self._mutex:
            hold = self._holds.get(shard.sha256)
            if hold is not None and self._folder.holds(hold.file, shard):
                hold.count += 1
                return path
        file = self._bring(shard)
        with self._mutex:
            hold = self._holds.get(shard.sha256)
            if hold is None:
                self._holds[shard.sha256] = _Hold(file, 1)
            else:  # another thread was faster, or the file was changed while it was held
                hold.file.close()
                hold.file, hold.count = file, hold.count + 1
        self._prefetcher.remove(shard)
        return path

    def release(self, shard: CachedShard) -> None:
        """Undo one hold; the shard stays in the cache until its room is needed."""
        with self._mutex:
            hold = self._holds[shard.sha256]
            hold.count -= 1
            if hold.count:
                return
            del self._holds[shard.sha256]
            self._folder.touch(hold.file)
            self._folder.let_go(hold.file)
        self._prefetcher.look_again()

    def prefetch(self, shards: Sequence[CachedShard], *, urgent: bool = False) -> None:
        """Bring these ahead of need, in this order, after what was asked for before (urgent: before it).

        Returns at once. What finds no room waits for it; it takes the room of shards that
        nobody holds or has asked for. A shard that cannot be brought is a warning in the
        log and an error when it is held.
        """
        with self._mutex:
            new = [shard for shard in shards if shard.sha256 not in self._holds]
        self._prefetcher.add(new, urgent=urgent)

    def cancel(self, shards: Sequence[CachedShard]) -> None:
        """These are not needed after all; what was brought already stays until its room is needed."""
        self._prefetcher.remove(*shards)

    def path(self, shard: CachedShard) -> str:
        """Where the shard lies while it is held."""
        return self._folder.path(shard)

    @property
    def downloads(self) -> int:
        return self._downloader.downloads

    @property
    def requests(self) -> int:
        return self._downloader.requests

    @property
    def fetched_bytes(self) -> int:
        return self._downloader.fetched_bytes

    def close(self) -> None:
        """Stop prefetching and release everything; a closed cache may be used again."""
        self._prefetcher.close()
        self._prefetcher = Prefetcher(self._folder, self._downloader)
        with self._mutex:
            for hold in self._holds.values():
                self._folder.let_go(hold.file)
            self._holds.clear()

    def forget(self) -> None:
        """Begin as a process that holds nothing and has fetched nothing; for forks and copies."""
        self._folder = CacheFolder(self.folder, self.capacity, self._wait)
        self._downloader = Downloader(self._folder, verify=self._verify)
        self._prefetcher = Prefetcher(self._folder, self._downloader)
        self._mutex = threading.Lock()
        self._holds = {}
        self._hashed = set()
        self._cleaned = False

    def _bring(self, shard: CachedShard) -> LockFile:
        """A file that holds the shard, waiting for whoever downloads it, or for room to do so."""
        if shard.size > self.capacity:
            raise CacheError(
                f"{self.folder}: {shard.url} has {shard.size:,} bytes, the whole cache {self.capacity:,};"
                " raise data.cache.capacity, or pack smaller shards (make-shards pack --utterances-per-shard)"
            )
        if not self._cleaned:
            self._cleaned = True
            self._folder.clean()
        full_until = busy_until = now = 0.0
        progress = None
        pause = _SHORTEST_PAUSE_S
        while True:
            outcome = self._folder.admit(shard, ahead=False, insist=now >= full_until)
            now = time.monotonic()
            if isinstance(outcome, Present):
                if self._is_right(outcome.file, shard):
                    return outcome.file
                self._folder.discard(outcome.file, shard)
                continue
            if isinstance(outcome, Claim):
                return self._downloader.fulfil(outcome, shard, ahead=False, stopped=lambda: False)
            if isinstance(outcome, Busy):
                if outcome.progress != progress:
                    progress, busy_until = outcome.progress, now + self._wait
                elif now > busy_until:
                    raise CacheError(
                        f"{self.folder}: another process or thread has been downloading {shard.url} without"
                        f" progress for {self._wait:.0f} s ({progress[1]:,} of {shard.size:,} bytes);"
                        " is it stopped? End it, and another takes over"
                    )
            elif isinstance(outcome, Full):
                full_until = full_until or now + self._wait
                if outcome.hopeless or now > full_until:
                    raise self._full(shard, outcome)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(1.5 * pause, _LONGEST_PAUSE_S)

    def _is_right(self, file: LockFile, shard: CachedShard) -> bool:
        """Whether a file that lay there has the shard's SHA-256, where that is to be verified.

        Looked at once by each process: a time of modification can be kept by whoever changes a file.
        """
        status = os.fstat(file.fd)
        seen = (shard.sha256, status.st_ino)
        if not self._verify or seen in self._hashed:
            return True
        digest = hashlib.sha256()
        for start in range(0, shard.size, _HASHED_AT_ONCE):
            digest.update(os.pread(file.fd, _HASHED_AT_ONCE, start))
        if digest.hexdigest() != shard.sha256:
            logger.warning("%s was changed since it was downloaded: bringing it again", file.path)
            return False
        self._hashed.add(seen)
        return True

    def _full(self, shard: CachedShard, full: Full) -> CacheError:
        needs = f"{self.folder}: no room for {shard.url} of {shard.size:,} bytes"
        taken = f"{full.held:,} bytes are held by running jobs, {full.arriving:,} reserved by downloads"
        waited = "" if full.hopeless else f", for {self._wait:.0f} s now"
        if full.disk:
            return CacheError(
                f"{needs}: the disk has {full.free:,} free, and {taken}{waited};"
                " free some space, or put data.cache.folder on a larger disk"
            )
        return CacheError(
            f"{needs}: the capacity is {self.capacity:,}, and {taken}{waited};"
            " raise data.cache.capacity, or read from fewer shards at once (a smaller window)"
        )

    def _register(self) -> None:
        self.forget()
        forget_after_fork(self)
        _caches.add(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("folder", "capacity", "_wait", "_verify")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._register()

    def __del__(self) -> None:
        if hasattr(self, "_prefetcher"):
            self._prefetcher.close()


_caches: weakref.WeakSet[ShardCache] = weakref.WeakSet()


def _close_all() -> None:
    for cache in list(_caches):
        cache.close()


atexit.register(_close_all)
