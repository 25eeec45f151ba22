"""Bringing shards into the cache folder ahead of need, by a few threads of this process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from shard_tools.cache.answers import Claim, Full, Later, Present
from shard_tools.cache.download import Downloader, Stopped
from shard_tools.cache.folder import CacheFolder
from shard_tools.cache.locks import LockFile
from shard_tools.cache.shard import CachedShard
from shard_tools.errors import UserError

logger = logging.getLogger(__name__)

THREADS = 4  # downloads under way at once; each holds a part of its shard in memory
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


class Prefetcher:
    """A queue of shards and the threads that bring them.

    Whether a shard could be brought shows when it is held, which meets the same error again.
    """

    def __init__(self, folder: CacheFolder, downloader: Downloader) -> None:
        self._folder = folder
        self._downloader = downloader
        self._changed = threading.Condition()  # guards all below
        self._queue: dict[str, CachedShard] = {}
        self._marks: dict[str, LockFile] = {}  # keep other processes' prefetching off what was brought
        self._threads: set[threading.Thread] = set()
        self._stopped = False
        self._looking_for_room = threading.Lock()  # one thread at a time, so that shards come in their order

    def add(self, shards: Sequence[CachedShard], *, urgent: bool) -> None:
        """Queue the shards that are not announced yet; urgent: before all that is queued."""
        with self._changed:
            new = {shard.sha256: shard for shard in shards if shard.sha256 not in self._marks}
            rest = {sha256: shard for sha256, shard in self._queue.items() if sha256 not in new or not urgent}
            self._queue = {**new, **rest} if urgent else {**rest, **new}
            for _ in range(min(THREADS, len(self._queue)) - len(self._threads)):
                thread = threading.Thread(target=self._run, name="shard prefetch", daemon=True)
                self._threads.add(thread)
                thread.start()
            self._changed.notify_all()

    def remove(self, *shards: CachedShard) -> None:
        """Forget shards: they are held now, or no longer needed. Downloads under way are completed."""
        with self._changed:
            for shard in shards:  # all of them before any makes room, which another might take
                self._queue.pop(shard.sha256, None)
            for shard in shards:
                mark = self._marks.pop(shard.sha256, None)
                if mark is not None:
                    self._folder.let_go(mark)
            self._changed.notify_all()

    def look_again(self) -> None:
        """There may be room now."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Stop; downloads under way end at their next part."""
        with self._changed:
            self._stopped = True
            self._queue.clear()
            for mark in self._marks.values():
                self._folder.let_go(mark)
            self._marks.clear()
            threads = list(self._threads)
            self._changed.notify_all()
        limit = time.monotonic() + 1.0
        for thread in threads:
            thread.join(max(limit - time.monotonic(), 0.0))

    def _run(self) -> None:
        try:
            while (claimed := self._claim_next()) is not None:
                shard, claim = claimed
                try:
                    file = self._downloader.fulfil(claim, shard, ahead=True, stopped=lambda: self._stopped)
                    self._folder.let_go(file)
                except Stopped:
                    pass
                except UserError as error:
                    self._warn(shard, error)
        finally:
            with self._changed:
                self._threads.discard(threading.current_thread())

    def _claim_next(self) -> tuple[CachedShard, Claim] | None:
        """Claim the first shard of the queue that nobody has; waits for room. None: nothing is left."""
        with self._looking_for_room:
            pause = _SHORTEST_PAUSE_S
            while (shard := self._first()) is not None:
                try:
                    outcome = self._admit(shard)
                except UserError as error:
                    self._warn(shard, error)
                    self.remove(shard)
                    continue
                if isinstance(outcome, Claim):
                    return shard, outcome
                if isinstance(outcome, (Full, Later)):
                    with self._changed:
                        if not self._stopped:
                            self._changed.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE_S)
                else:
                    pause = _SHORTEST_PAUSE_S
        return None

    def _first(self) -> CachedShard | None:
        with self._changed:
            if self._queue:
                return next(iter(self._queue.values()))
            self._threads.discard(threading.current_thread())  # now, so that add() starts another
            return None

    def _admit(self, shard: CachedShard) -> Claim | Full | Later | None:
        """Announce the shard and claim its download; None when there is nothing to download."""
        if shard.sha256 not in self._marks:
            mark = self._folder.want(shard)
            with self._changed:
                if shard.sha256 not in self._queue:
                    mark.close()
                    return None
                self._marks[shard.sha256] = mark
        outcome = self._folder.admit(shard, ahead=True)
        if isinstance(outcome, (Full, Later)):
            return outcome
        with self._changed:
            still_wanted = self._queue.pop(shard.sha256, None) is not None
        if isinstance(outcome, Present):
            outcome.file.close()
        if isinstance(outcome, Claim):
            if still_wanted:
                return outcome
            self._folder.abandon(outcome)
        return None

    def _warn(self, shard: CachedShard, error: UserError) -> None:
        logger.warning("not fetched ahead, but when it is needed: %s: %s", shard.url, error)
