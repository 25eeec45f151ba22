"""Copies of shards on this node that are read as soon as they are there: nobody waits for one.

    SHA256.shard, …      as in any cache folder (shard_tools/cache/folder.py)
    .bringing-DIGEST     exclusive lock: a process brings the shards of this DIGEST; kept until it ends

One process of the node brings them all; the others look for what has come. Several jobs may share a folder,
and a killed process's work is taken up by another.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from shard_tools.cache.bringing import Bringing
from shard_tools.cache.eviction import open_if_there
from shard_tools.cache.folder import CacheFolder
from shard_tools.cache.locks import EXCLUSIVE, SHARED, LockFile, forget_after_fork
from shard_tools.cache.shard import CachedShard
from shard_tools.read.source import OPEN_FILES, most_open_files

_OPTION = "augment.copy.folder"
_LOOK_S = 1.0  # between two looks for copies that are not there yet
_LOCK_S = 60.0  # for the folder's own lock, which is kept for milliseconds
_LATER_S = 10.0  # before a process that is not the first choice brings them


class NodeCopies:
    """Copies of `shards` in `folder`, as one process sees them. Picklable; a copy or a fork holds nothing.

    room: bytes that the folder may hold; spare: bytes of its disk that are left to others; eager: bring the
    shards as soon as nobody else does, else only some seconds later, so that the process whose log is read
    is the one that brings them. May be used by any number of threads.

    complete: whether all of them have been seen here.
    """

    def __init__(
        self, folder: str, shards: Sequence[CachedShard], *, room: int, spare: int = 0, eager: bool = True
    ) -> None:
        self.folder = os.path.abspath(folder)
        self.shards = {shard.sha256: shard for shard in shards}
        self._room = room
        self._spare = spare
        self._eager = eager
        self._register()

    def prepare(self) -> None:
        """Make the folder. Raises CacheError where it cannot be used."""
        self._cache_folder().clean()

    @contextmanager
    def opened(self, sha256: str) -> Iterator[int | None]:
        """A descriptor of the whole shard, good until the end of the block; None where it is not here.

        It is held meanwhile, and mostly longer: what running jobs read does not give way to others.
        """
        if not self.complete and time.monotonic() >= self._next_look:
            self._look()
        with self._guard:
            file = self._files.get(sha256) or (self._open(sha256) if sha256 in self._seen else None)
            yield None if file is None else file.fd

    def give_up(self, sha256: str) -> None:
        """The copy cannot be read: it is not asked for again."""
        with self._guard:
            self._seen.discard(sha256)
            self._bad.add(sha256)
            file = self._files.pop(sha256, None)
            if file is not None:
                file.close()

    def close(self) -> None:
        """Stop bringing, and let go of all; the copies stay."""
        with self._guard:
            if self._bringing is not None:
                self._bringing.close()
            self._forget_files()

    def forget(self) -> None:
        """Begin as a process that holds nothing; for forks and copies."""
        self._guard = threading.RLock()
        self._files: OrderedDict[str, LockFile] = OrderedDict()
        self._forget_files()

    def _forget_files(self) -> None:
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._seen: set[str] = set()
        self._bad: set[str] = set()
        self._bringing: Bringing | None = None
        self._next_look = 0.0
        self._first_look: float | None = None
        self.complete = False

    def _look(self) -> None:
        """See which copies have come, and bring them if nobody does."""
        with self._guard:
            now = time.monotonic()
            if now < self._next_look or self.complete:
                return
            self._first_look = self._first_look or now
            for sha256 in self.shards:
                if sha256 not in self._seen | self._bad and self._open(sha256) is not None:
                    self._seen.add(sha256)
            self.complete = self._seen == self.shards.keys()
            due = self._eager or now - self._first_look >= _LATER_S
            if not self.complete and self._bringing is None and due:
                self._bring()
            self._next_look = time.monotonic() + _LOOK_S

    def _bring(self) -> None:
        digest = hashlib.sha256("".join(sorted(self.shards)).encode()).hexdigest()
        try:
            lock = LockFile(os.path.join(self.folder, f".bringing-{digest[:16]}"), os.O_RDWR | os.O_CREAT)
        except OSError:  # the folder has gone: it was there when `prepare` made it
            return
        if not lock.lock(EXCLUSIVE):
            lock.close()
            return
        folder = self._cache_folder()
        self._bringing = Bringing(folder, list(self.shards.values()), lock, spare=self._spare)

    def _open(self, sha256: str) -> LockFile | None:
        """The shard's file, held."""
        shard, folder = self.shards[sha256], self._cache_folder()
        try:
            file = open_if_there(folder.path(shard), os.O_RDONLY)
        except OSError:  # too many files are open, or the folder is not ours: it is read elsewhere
            return None
        if file is None:
            return None
        if not (file.lock(SHARED) and folder.holds(file, shard)):
            file.close()
            return None
        folder.touch(file)
        while len(self._files) >= max(1, min(OPEN_FILES, most_open_files() // 4)):
            self._files.popitem(last=False)[1].close()
        self._files[sha256] = file
        return file

    def _cache_folder(self) -> CacheFolder:
        return CacheFolder(self.folder, self._room, _LOCK_S, _OPTION)

    def _register(self) -> None:
        self.forget()
        forget_after_fork(self)

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("folder", "shards", "_room", "_spare", "_eager")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._register()
