from __future__ import annotations

import os
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
from cache_fakes import each_part_once, make_shards, names, requests, wait_until, write_down_requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shard_tools.cache.cache import CacheError, ShardCache
from shard_tools.cache.source import CachedSource
from shard_tools.read.source import RangeError
from shard_tools.storage import StorageError

SIZE = 30_000


@pytest.fixture
def log(tmp_path, monkeypatch):
    write_down_requests(tmp_path / "requests", monkeypatch.setattr)
    return tmp_path / "requests"


@pytest.fixture
def shards(tmp_path):
    return make_shards(tmp_path / "shards", [SIZE] * 8)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def open_source(folder, shards):
    caches = []

    def open_it(shards_that_fit: float, wait: float = 30.0) -> CachedSource:
        caches.append(ShardCache(str(folder), int(shards_that_fit * SIZE), wait=wait))
        return CachedSource(caches[-1], shards)

    yield open_it
    for cache in caches:
        cache.close()


def read(source: CachedSource, shards, numbers, offsets, size: int) -> None:
    """Read ranges and compare them with the shards themselves."""
    buffers = [bytearray(size) for _ in numbers]
    source.fill(numbers, offsets, [memoryview(buffer) for buffer in buffers])
    for number, offset, buffer in zip(numbers, offsets, buffers, strict=True):
        assert buffer == Path(shards[number].url).read_bytes()[offset : offset + size]


def held(source: CachedSource) -> set[int]:
    """The shards that another process could not evict."""
    other = ShardCache(source.cache.folder, source.cache.capacity, wait=0)
    other._folder.evict(10**12, ahead=False)
    left = names(Path(source.cache.folder), ".shard")
    return {number for number, shard in enumerate(source._shards) if f"{shard.sha256}.shard" in left}


def test_a_window_is_held_and_the_last_one_released(log, shards, open_source):
    source = open_source(5)
    source.keep([3, 1, 2])
    assert held(source) == {1, 2, 3}
    read(source, shards, [1, 3, 2, 1], [0, 5, 29_000, 777], 1000)
    source.keep([2, 5])
    assert held(source) == {2, 5}
    read(source, shards, [2, 5], [0, 0], SIZE)
    source.keep(np.array([], np.int64))
    assert held(source) == set()
    assert requests(log) == each_part_once([shards[number] for number in (1, 2, 3, 5)])


def test_without_a_window_the_latest_read_is_held(log, shards, open_source):
    source = open_source(3)
    for number in range(8):
        read(source, shards, [number, number // 2], [number, 9], 100)
    assert held(source) == {3, 7}
    source.keep([0])
    read(source, shards, [4, 0], [0, 0], 100)
    assert held(source) == {0, 4}


def test_prefetched_windows_cost_one_pass(log, shards, open_source):
    source = open_source(8)
    windows = [[5, 0], [7, 3], [1, 2], [4, 6]]
    for _ in range(2):
        for window, following in zip(windows, windows[1:] + windows[:1], strict=True):
            source.keep(window)
            source.prefetch(following)
            read(source, shards, window * 4, list(range(0, 8000, 1000)), 999)
    assert requests(log) == each_part_once(shards)
    assert source.cache.fetched_bytes == sum(shard.size for shard in shards)


def test_a_new_prefetch_list_replaces_the_old(log, shards, folder, open_source):
    source = open_source(3)
    source.keep([0])
    source.prefetch([1, 2, 3])  # 3 finds no room
    wait_until(lambda: len(names(folder, ".shard")) == 3)
    source.prefetch([4, 5])  # and now 1 and 2 may go
    wait_until(lambda: names(folder, ".shard") == sorted(f"{shards[n].sha256}.shard" for n in (0, 4, 5)))
    assert requests(log) == each_part_once([shards[number] for number in (0, 1, 2, 4, 5)])


def test_a_window_larger_than_the_cache(shards, open_source):
    with pytest.raises(CacheError, match=r"window of 3 shards has 90,000 bytes, the whole cache 75,000"):
        open_source(2.5).keep([1, 2, 3])


def test_released_shards_take_no_room_on_the_disk(log, shards, open_source):
    """A file that is still open keeps its blocks although its name is gone."""
    source = open_source(2)
    for number in range(8):
        source.keep([number])
        read(source, shards, [number], [0], 100)
    opened = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    there = [str(path) for path in opened if source.cache.folder in str(path)]
    assert there
    assert not [path for path in there if path.endswith("(deleted)")]


@pytest.mark.parametrize("damage", ["cut", "emptied"])
def test_a_shard_cut_while_it_is_read(log, shards, folder, open_source, damage):
    source = open_source(2)
    read(source, shards, [0], [0], 1000)
    os.truncate(folder / f"{shards[0].sha256}.shard", {"cut": SIZE - 1, "emptied": 0}[damage])
    read(source, shards, [1, 0], [0, SIZE - 1000], 1000)
    assert source.cache.downloads == 3


def test_a_shard_that_cannot_be_had_keeps_its_cause(log, shards, open_source):
    source = open_source(4)
    os.unlink(shards[1].url)
    with pytest.raises(RangeError) as caught:
        read(source, shards, [0, 1], [0, 0], 10)
    assert isinstance(caught.value.__cause__, StorageError)


def test_few_open_files_are_named_with_the_remedy(log, shards, open_source):
    source = open_source(8)
    read(source, shards, [0], [0], 10)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = [os.open(os.devnull, os.O_RDONLY) for _ in range(64)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(free) + 1, before[1]))
    for file in free[-3:]:
        os.close(file)
    try:
        with pytest.raises(CacheError, match=r"Too many open files: this process may have \d+, .*ulimit -n"):
            source.keep(range(8))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for file in free[:-3]:
            os.close(file)


def test_a_range_beyond_the_end(log, shards, open_source):
    source = open_source(2)
    with pytest.raises(RangeError) as caught:
        read(source, shards, [0, 1], [0, SIZE - 10], 11)
    assert caught.value.position == 1
    assert source.cache.downloads == 2


def test_a_copy_and_a_forked_child_start_afresh(log, shards, open_source):
    source = open_source(2)
    source.keep([0, 1])
    copy = pickle.loads(pickle.dumps(source))
    read(copy, shards, [1, 0], [0, 0], 100)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert not source._held
            read(source, shards, [1, 0], [0, 0], 100)
            assert source.cache.requests == 0
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert held(source) == {0, 1}
    assert requests(log) == each_part_once(shards[:2])


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["keep", "prefetch", "read"]), st.lists(st.integers(0, 7), min_size=1, max_size=3)
        ),
        max_size=12,
    )
)
def test_any_sequence_of_calls_reads_right(log, shards, open_source, calls):
    source = open_source(6.5)
    for call, numbers in calls:
        if call == "read":
            read(source, shards, numbers, [7 * number for number in numbers], 500)
        else:
            getattr(source, call)(numbers)
    source.cache.close()
