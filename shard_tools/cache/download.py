"""Bringing one shard from storage into its file of the cache folder, checked on the way."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable

from shard_tools import storage
from shard_tools.cache.answers import Claim
from shard_tools.cache.folder import CacheFolder
from shard_tools.cache.locks import LockFile
from shard_tools.cache.shard import CachedShard, CacheError, ShardError

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Stopped(Exception):
    """The download was given up because nobody wants it any more."""


class Downloader:
    """Fulfils claims, and counts what this process fetched. Any number of threads may use it at once."""

    def __init__(self, folder: CacheFolder, *, verify: bool) -> None:
        self._folder = folder
        self._verify = verify
        self._counting = threading.Lock()
        self.downloads = 0  # shards brought whole
        self.requests = 0  # reads that storage was asked for
        self.fetched_bytes = 0

    def fulfil(
        self, claim: Claim, shard: CachedShard, *, ahead: bool, stopped: Callable[[], bool]
    ) -> LockFile:
        """Download the shard and publish it; returns the file that holds it.

        Raises CacheError (bytes that are not the manifest's, a full disk), StorageError
        and Stopped; the unfinished file is then gone.
        """
        try:
            self._write_making_space(claim.file.fd, shard, ahead, stopped)
            file = self._folder.publish(claim, shard)
        except BaseException:
            self._folder.abandon(claim)
            raise
        with self._counting:
            self.downloads += 1
        return file

    def _write_making_space(
        self, file: int, shard: CachedShard, ahead: bool, stopped: Callable[[], bool]
    ) -> None:
        """Room on the disk was looked for before, but quotas and other programs can still take it away."""
        try:
            self._write_checked(file, shard, stopped)
            return
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise self._cannot_write(error) from error
            os.ftruncate(file, 0)
            if not self._folder.evict(shard.size, ahead=ahead):
                raise self._disk_full(shard, error) from error
        try:
            self._write_checked(file, shard, stopped)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise self._cannot_write(error) from error
            raise self._disk_full(shard, error) from error

    def _write_checked(self, file: int, shard: CachedShard, stopped: Callable[[], bool]) -> None:
        """Write the shard, once more when what came is not what the manifest says."""
        if self._write(file, shard, stopped) == shard.sha256:
            return
        found = self._write(file, shard, stopped)
        if found != shard.sha256:
            raise ShardError(
                f"{shard.url}: its {shard.size:,} bytes have SHA-256 {found}, the manifest says"
                f" {shard.sha256}, twice: packed anew or damaged; check it with make-shards verify"
            )

    def _write(self, file: int, shard: CachedShard, stopped: Callable[[], bool]) -> str:
        """Write the shard's bytes; their SHA-256, or what is expected when it is not to be verified."""
        os.ftruncate(file, 0)
        os.lseek(file, 0, os.SEEK_SET)
        digest = hashlib.sha256()
        for start in range(0, shard.size, storage.DOWNLOAD_PART):
            if stopped():
                raise Stopped
            end = min(start + storage.DOWNLOAD_PART, shard.size)
            data = _read(shard, start, end)
            with self._counting:
                self.requests += 1
                self.fetched_bytes += len(data)
            if len(data) != end - start:
                raise _cut_short(shard, start + len(data))
            if self._verify:
                digest.update(data)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(file, rest) :]
        return digest.hexdigest() if self._verify else shard.sha256

    def _cannot_write(self, error: OSError) -> CacheError:
        return CacheError(
            f"{self._folder.folder}: cannot be written ({error.strerror}); check its disk, or use another"
            f" {self._folder.option}"
        )

    def _disk_full(self, shard: CachedShard, error: OSError) -> CacheError:
        return CacheError(
            f"{self._folder.folder}: {error.strerror}: {shard.url} needs {shard.size:,} bytes,"
            f" {self._folder.free_on_disk():,} are free, and no unused shard is left to remove;"
            f" free some space, or put {self._folder.option} on a larger disk"
        )


def _read(shard: CachedShard, start: int, end: int) -> bytes | memoryview:
    """Bytes [start, end) of what is there. From a store, all parts of a shard are of one version of it."""
    if storage.local_path(shard.url) is not None:
        return storage.read_bytes(shard.url, start, end)
    try:
        return storage.read_range(shard.url, start, end, shard.size)
    except storage.ShortError as error:
        raise _cut_short(shard, error.size) from error


def _cut_short(shard: CachedShard, found: int) -> ShardError:
    return ShardError(
        f"{shard.url}: ends at byte {found:,}, the manifest says {shard.size:,}: packed anew or cut short;"
        " check it with make-shards verify"
    )
