"""Bringing shards to this node's folder in the background, for whoever looks for them there."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence

from shard_tools.cache.answers import Busy, Claim, Full, Present
from shard_tools.cache.download import Downloader, Stopped
from shard_tools.cache.folder import CacheFolder
from shard_tools.cache.locks import LockFile
from shard_tools.cache.shard import CachedShard, CacheError, is_sound
from shard_tools.errors import UserError

logger = logging.getLogger(__name__)

THREADS = 2  # downloads under way at once; each holds a part of its shard in memory
_TELL_S = 60.0
_OTHERS_S = 1.0  # between two looks at a download of another process


class Bringing:
    """Threads that bring `shards` into `folder`, begun at once; a failure ends them, with one warning.

    lock: says to the others that this process brings them, or has tried; kept until `close`.
    spare: bytes of the disk that are not free, whatever it says.
    """

    def __init__(
        self, folder: CacheFolder, shards: Sequence[CachedShard], lock: LockFile, *, spare: int
    ) -> None:
        self._folder = folder
        self._lock = lock
        self._spare = spare
        self._downloader = Downloader(folder, verify=True)
        self._guard = threading.Lock()  # of all below
        self._queue = deque(shards)
        self._left = {shard.sha256: shard.size for shard in shards}
        self._total = sum(self._left.values())
        self._files: list[LockFile] = []  # held, so that one does not give way to the next
        self._stopped = False
        self._told = time.monotonic()
        self._threads = [threading.Thread(target=self._run, name="copies", daemon=True)]
        self._threads[0].start()
        _all.add(self)

    def close(self) -> None:
        """Stop: downloads under way end at their next part."""
        self._stopped = True
        limit = time.monotonic() + 1.0
        for thread in list(self._threads):
            if thread is not threading.current_thread():
                thread.join(max(limit - time.monotonic(), 0.0))
        self._lock.close()

    def _run(self) -> None:
        """The first thread: looks whether there is room, and starts the others."""
        try:
            self._require_room()
        except (UserError, OSError) as error:
            self._give_up(error)
            return
        logger.info(
            "bringing noise and rooms to this node: %d shards, %s into %s; until one is there it is read from"
            " where it lies", len(self._left), _size(self._total), self._folder.folder,
        )  # fmt: skip
        for _ in range(min(THREADS, len(self._queue)) - 1):
            thread = threading.Thread(target=self._work, name="copies", daemon=True)
            with contextlib.suppress(RuntimeError):  # no more threads are to be had: this one works alone
                thread.start()
                self._threads.append(thread)
        self._work()

    def _require_room(self) -> None:
        """Raises CacheError where it would take more than half of what is free."""
        with self._guard:
            shards = list(self._queue)
        missing = sum(shard.size for shard in shards if not _is_there(self._folder.path(shard), shard))
        free = self._folder.free_on_disk() - self._spare
        if 2 * missing > free:
            raise CacheError(
                f"{self._folder.folder}: {_size(missing)} of noise and rooms would be brought, and of its"
                f" disk {_size(max(free, 0))} are free, of which half is to stay so; give"
                " augment.copy.folder a folder on a larger disk of the node"
            )

    def _work(self) -> None:
        while not self._stopped:
            with self._guard:
                if not self._queue:
                    return
                shard = self._queue.popleft()
            try:
                file = self._bring(shard)
            except Stopped:
                return
            except (UserError, OSError) as error:
                self._give_up(error)
                return
            if file is None:
                time.sleep(_OTHERS_S)
            self._note(shard, file)

    def _bring(self, shard: CachedShard) -> LockFile | None:
        """The file that holds the shard; None while another process downloads it. Raises CacheError."""
        outcome = self._folder.admit(shard, ahead=True, insist=True)
        if isinstance(outcome, Present):
            return outcome.file
        if isinstance(outcome, Claim):
            return self._downloader.fulfil(outcome, shard, ahead=True, stopped=lambda: self._stopped)
        if isinstance(outcome, Busy):
            return None
        assert isinstance(outcome, Full)
        raise CacheError(
            f"{self._folder.folder}: no room for {shard.url} of {_size(shard.size)}: of the"
            f" {_size(self._folder.capacity)} that it may hold, running jobs use {_size(outcome.held)} for"
            f" other recordings, and the disk has {_size(outcome.free)} free; give augment.copy.folder"
            " another folder"
        )

    def _note(self, shard: CachedShard, file: LockFile | None) -> None:
        with self._guard:
            if file is None:
                self._queue.append(shard)
                return
            self._files.append(file)
            del self._left[shard.sha256]
            left, done = sum(self._left.values()), not self._left
            tell = done or time.monotonic() - self._told >= _TELL_S
            if tell:
                self._told = time.monotonic()
        if done:
            where = self._folder.folder
            logger.info("noise and rooms are on this node now: %s in %s", _size(self._total), where)
            self._let_go()
        elif tell:
            there = _size(self._total - left)
            logger.info("noise and rooms: %s of %s are on this node", there, _size(self._total))

    def _give_up(self, error: UserError | OSError) -> None:
        with self._guard:
            first, self._stopped = not self._stopped, True
        if first:
            logger.warning(
                "noise and rooms are read from where they lie, as far as they are not on this node: %s"
                " (augment.copy.max_gib 0 brings none)", error,
            )  # fmt: skip
        self._let_go()

    def _let_go(self) -> None:
        with self._guard:
            files, self._files = self._files, []
        for file in files:
            self._folder.let_go(file)


def _is_there(path: str, shard: CachedShard) -> bool:
    try:
        return is_sound(os.stat(path), shard)
    except OSError:
        return False


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**28 else f"{count / 2**20:.1f} MiB"


_all: weakref.WeakSet[Bringing] = weakref.WeakSet()


def _close_all() -> None:
    for bringing in list(_all):
        bringing.close()


atexit.register(_close_all)
