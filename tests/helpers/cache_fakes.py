"""Shards of random bytes, and a storage that writes down every request; works in spawned processes too."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np

from shard_tools import storage
from shard_tools.cache.cache import CachedShard

PART = 16 * 1024


def make_shards(folder: Path, sizes: list[int], seed: int = 0) -> list[CachedShard]:
    """Files of random bytes at absolute paths in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    shards = []
    for number, size in enumerate(sizes):
        data = random.bytes(size)
        (folder / f"{number:03d}.tar").write_bytes(data)
        url = str(folder / f"{number:03d}.tar")
        shards.append(CachedShard(url, size, hashlib.sha256(data).hexdigest()))
    return shards


def write_down_requests(log: Path, patch, seconds_each: float = 0.0) -> None:
    """From now on this process reads parts of PART bytes and appends a line to `log` for each request."""
    read_bytes = storage.read_bytes

    def read(url, start=None, end=None):
        file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{url} {start}\n".encode())
        os.close(file)
        time.sleep(seconds_each)
        return read_bytes(url, start, end)

    patch(storage, "read_bytes", read)
    patch(storage, "DOWNLOAD_PART", PART)
    for name in ("size", "exists", "modified", "fetch", "read_many"):
        patch(storage, name, None)  # a cache has no need of them


def requests(log: Path) -> Counter[str]:
    """How often each "URL start" was asked for."""
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def each_part_once(shards: list[CachedShard]) -> Counter[str]:
    """The requests of downloading each of these exactly once."""
    return Counter(f"{shard.url} {start}" for shard in shards for start in range(0, shard.size, PART))


def names(folder: Path, ending: str) -> list[str]:
    """Files in the cache folder whose names end so; the folder need not be there yet."""
    return sorted(path.name for path in folder.glob("*" + ending))


def wait_until(condition, seconds: float = 20.0) -> None:
    """Wait for another thread or process; the limit only keeps a broken test from hanging."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.005)
