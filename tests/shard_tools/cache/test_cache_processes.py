"""The cache between real processes: who downloads, who waits, and what is left when one is killed."""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cache_fakes import PART, each_part_once, make_shards, names, requests, wait_until, write_down_requests

from shard_tools.cache.cache import CachedShard, CacheError, ShardCache
from shard_tools.cache.source import CachedSource

pytestmark = pytest.mark.slow

SIZE = 200_000
SPAWN = multiprocessing.get_context("spawn")


def _slow(log: Path, seconds_each: float) -> None:
    write_down_requests(log, setattr, seconds_each)


def hold_all(log, folder, shards, barrier, results) -> None:
    """Hold every shard at the same time as other processes; report what was wrong and what was fetched."""
    _slow(log, 0.005)
    cache = ShardCache(str(folder), 10**9)
    barrier.wait()
    right = [Path(cache.hold(shard)).read_bytes() == Path(shard.url).read_bytes() for shard in shards]
    results.put((all(right), cache.fetched_bytes, cache.downloads))


def hold_one(log, folder, shard, seconds_each) -> None:
    _slow(log, seconds_each)
    ShardCache(str(folder), 10**9).hold(shard)


def walk(folder, shards, capacity, seed, errors, fetched) -> None:
    """A job's worker: windows in an order of its own, read at random places."""
    cache = ShardCache(str(folder), capacity, wait=60)
    source = CachedSource(cache, shards)
    random = np.random.default_rng(seed)
    contents = [Path(shard.url).read_bytes() for shard in shards]
    windows = random.permutation(len(shards)).reshape(-1, 2)
    try:
        for number, window in enumerate(windows):
            source.keep(window)
            source.prefetch(windows[(number + 1) % len(windows)])
            for _ in range(3):
                picks = random.choice(window, 16).tolist()
                offsets = random.integers(0, [shards[pick].size - 500 for pick in picks]).tolist()
                buffers = [bytearray(500) for _ in picks]
                source.fill(picks, offsets, [memoryview(buffer) for buffer in buffers])
                for pick, offset, buffer in zip(picks, offsets, buffers, strict=True):
                    if buffer != contents[pick][offset : offset + 500]:
                        errors.put(f"seed {seed}: wrong bytes of shard {pick} at {offset}")
    except Exception as error:
        errors.put(f"seed {seed}: {error!r}")
    fetched.put(cache.fetched_bytes)
    cache.close()


@pytest.fixture
def start():
    """Start a process, which is gone when the test ends."""
    processes = []

    def start_it(target, *arguments):
        processes.append(SPAWN.Process(target=target, args=arguments))
        processes[-1].start()
        return processes[-1]

    yield start_it
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()


def test_four_processes_one_download(tmp_path, start):
    shards = make_shards(tmp_path / "shards", [SIZE] * 4 + [PART + 1])
    log, folder = tmp_path / "log", tmp_path / "cache"
    barrier, results = SPAWN.Barrier(4), SPAWN.Queue()
    processes = [start(hold_all, log, folder, shards, barrier, results) for _ in range(4)]
    reports = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert all(right for right, _, _ in reports)
    assert requests(log) == each_part_once(shards)
    assert sum(fetched for _, fetched, _ in reports) == sum(shard.size for shard in shards)
    assert sum(downloads for _, _, downloads in reports) == 5
    assert len(names(folder, ".shard")) == 5
    assert names(folder, ".part") == []


def _downloading(folder: Path) -> int:
    """Bytes that have come of a download under way."""
    try:
        return max((path.stat().st_size for path in folder.glob("*.part")), default=0)
    except FileNotFoundError:
        return 0


def test_a_killed_download_is_taken_over(tmp_path, start):
    (shard,) = make_shards(tmp_path / "shards", [SIZE])
    log, folder = tmp_path / "log", tmp_path / "cache"
    victim = start(hold_one, log, folder, shard, 0.5)
    wait_until(lambda: _downloading(folder) > 0)
    waiting = threading.Event()

    def kill() -> None:
        waiting.wait()
        time.sleep(0.1)
        os.kill(victim.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    cache = ShardCache(str(folder), 10**9, wait=30)
    waiting.set()
    assert Path(cache.hold(shard)).read_bytes() == Path(shard.url).read_bytes()
    killer.join()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert cache.downloads == 1
    assert names(folder, ".part") == []
    cache.close()


def test_waiting_ends_only_when_a_download_stands_still(tmp_path, start):
    (shard,) = make_shards(tmp_path / "shards", [SIZE])
    log, folder = tmp_path / "log", tmp_path / "cache"
    other = start(hold_one, log, folder, shard, 0.15)  # 13 parts, 2 s in all
    wait_until(lambda: _downloading(folder) > 0)
    os.kill(other.pid, signal.SIGSTOP)
    cache = ShardCache(str(folder), 10**9, wait=1.0)
    with pytest.raises(
        CacheError, match=r"has been downloading .*000\.tar without progress for 1 s \([\d,]+ of 200,000"
    ):
        cache.hold(shard)
    os.kill(other.pid, signal.SIGCONT)
    assert Path(cache.hold(shard)).read_bytes() == Path(shard.url).read_bytes()
    assert cache.downloads == 0
    assert requests(log) == each_part_once([shard])
    cache.close()


def _bytes_there(folder: Path) -> int:
    """Bytes of everything in the folder at one moment."""
    with open(folder / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        total = 0
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # a download given up
                total += path.stat().st_size
        return total


def test_two_jobs_share_a_folder_that_is_too_small_for_both(tmp_path, start):
    first = make_shards(tmp_path / "first", [SIZE + 1000 * n for n in range(12)], seed=1)
    second = make_shards(tmp_path / "second", [SIZE - 1000 * n for n in range(12)], seed=2)
    both = CachedShard(first[0].url, first[0].size, first[0].sha256)
    folder, capacity = tmp_path / "cache", 12 * SIZE
    errors, fetched = SPAWN.Queue(), SPAWN.Queue()
    jobs = [(first, 0), (first, 1), ([both, *second[1:]], 2), ([both, *second[1:]], 3)]
    # Two shards a worker are held, 8 of 12 that fit; their prefetching fights for the rest.
    processes = [start(walk, folder, shards, capacity, seed, errors, fetched) for shards, seed in jobs]
    wait_until(lambda: (folder / ".lock").exists(), 60)
    most, samples = 0, 0
    while any(process.is_alive() for process in processes):
        most = max(most, _bytes_there(folder))
        samples += 1
        time.sleep(0.002)
    total = sum(fetched.get(timeout=10) for _ in processes)
    assert errors.empty(), errors.get()
    assert [process.exitcode for process in processes] == [0] * 4
    assert capacity * 0.8 < most <= capacity
    assert samples > 10
    assert total > capacity  # so there was eviction
    assert names(folder, ".part") == []
