from __future__ import annotations

import errno
import hashlib
import os
import pickle
import subprocess
import threading
from pathlib import Path

import pytest
from cache_fakes import PART, each_part_once, make_shards, names, requests, wait_until, write_down_requests

from shard_tools import storage
from shard_tools.cache.cache import CachedShard, CacheError, ShardCache
from shard_tools.cache.locks import EXCLUSIVE, SHARED, LockFile
from shard_tools.storage import MissingError

SIZE = 40_000


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
def open_cache(folder):
    caches = []

    def open_it(shards_that_fit: float, wait: float = 30.0, **options) -> ShardCache:
        caches.append(ShardCache(str(folder), int(shards_that_fit * SIZE), wait=wait, **options))
        return caches[-1]

    yield open_it
    for cache in caches:
        cache.close()


def content(shard: CachedShard) -> bytes:
    return Path(shard.url).read_bytes()


def cached(folder: Path) -> set[str]:
    return {name.partition(".")[0] for name in names(folder, ".shard")}


def use(cache: ShardCache, *shards: CachedShard) -> None:
    for shard in shards:
        assert Path(cache.hold(shard)).read_bytes() == content(shard)
        cache.release(shard)


def test_each_shard_is_fetched_once_and_nothing_more(log, shards, folder, open_cache):
    cache = open_cache(8)
    use(cache, *shards)
    assert requests(log) == each_part_once(shards)
    assert cache.downloads == 8
    assert cache.fetched_bytes == 8 * SIZE
    assert cache.requests == sum(requests(log).values())
    use(cache, *shards)
    again = open_cache(8)  # as another process, or tomorrow's job
    use(again, *shards)
    assert again.requests == again.fetched_bytes == again.downloads == 0
    assert requests(log) == each_part_once(shards)
    assert cached(folder) == {shard.sha256 for shard in shards}
    assert names(folder, ".part") == []


def test_parts_of_odd_sizes(log, tmp_path, open_cache):
    odd = make_shards(tmp_path / "odd", [0, 1, PART - 1, PART, PART + 1, 2 * PART], seed=1)
    use(open_cache(10), *odd)
    assert requests(log) == each_part_once(odd)


def test_least_recently_used_goes_first_and_held_stays(log, shards, folder, open_cache):
    cache = open_cache(3.5)
    a, b, c, d, e = shards[:5]
    use(cache, a, b, c, a)
    use(cache, d)
    assert cached(folder) == {a.sha256, c.sha256, d.sha256}
    open_cache(3.5).hold(c)
    use(cache, b)
    assert cached(folder) == {c.sha256, d.sha256, b.sha256}
    use(cache, e)
    assert cached(folder) == {c.sha256, b.sha256, e.sha256}


def test_a_hold_is_a_use_even_if_its_process_dies(log, shards, folder, open_cache):
    cache, gone = open_cache(2), open_cache(2)
    use(cache, *shards[:2])
    gone.hold(shards[0])
    gone.close()  # as death does, this lets go without noting a use
    use(cache, shards[2])
    assert cached(folder) == {shards[0].sha256, shards[2].sha256}


def test_holds_are_counted(log, shards, folder, open_cache):
    cache = open_cache(1, wait=0.1)
    cache.hold(shards[0])
    cache.hold(shards[0])
    cache.release(shards[0])
    with pytest.raises(CacheError, match="no room"):
        cache.hold(shards[1])
    cache.release(shards[0])
    use(cache, shards[1])


def test_no_room_says_what_to_do(log, shards, folder, open_cache):
    cache = open_cache(2.5, wait=0.1)
    cache.hold(shards[0])
    cache.hold(shards[1])
    with pytest.raises(CacheError) as caught:
        cache.hold(shards[2])
    text = str(caught.value)
    for words in (
        shards[2].url,
        "of 40,000 bytes",
        "capacity is 100,000",
        "80,000 bytes are held",
        "data.cache.capacity",
    ):
        assert words in text
    assert "\n" not in text
    assert names(folder, ".part") == []
    cache.release(shards[0])
    cache.hold(shards[2])


@pytest.mark.slow
def test_room_that_comes_in_time(log, shards, open_cache):
    cache, other = open_cache(1), open_cache(1)
    other.hold(shards[0])
    timer = threading.Timer(0.3, other.release, [shards[0]])
    timer.start()
    use(cache, shards[1])
    timer.join()


def test_larger_than_the_cache(log, shards, folder, open_cache):
    with pytest.raises(
        CacheError, match=r"40,000 bytes, the whole cache 39,600; raise data\.cache\.capacity"
    ):
        open_cache(0.99).hold(shards[0])
    assert not requests(log)


@pytest.mark.parametrize("damage", ["cut", "grown", "overwritten", "removed", "folder removed"])
def test_a_changed_file_is_fetched_again(log, shards, folder, open_cache, damage):
    cache = open_cache(4)
    path = Path(cache.hold(shards[0]))
    cache.hold(shards[1])
    if damage == "cut":
        os.truncate(path, SIZE - 1)
    elif damage == "grown":
        os.truncate(path, SIZE + 1)
    elif damage == "overwritten":
        with open(path, "r+b") as file:
            file.write(b"spoilt")
        cache.release(shards[0])  # which notes a use, and must not hide the change
    elif damage == "removed":
        path.unlink()
    else:
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()
    assert Path(cache.hold(shards[0])).read_bytes() == content(shards[0])
    assert cache.downloads == 3


def test_a_file_changed_with_its_time_kept_is_seen_by_the_next_process(log, shards, folder, open_cache):
    cache = open_cache(4)
    path = Path(cache.hold(shards[0]))
    times = path.stat()
    cache.close()
    with open(path, "r+b") as file:
        file.write(b"spoilt")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    again = open_cache(4)
    assert Path(again.hold(shards[0])).read_bytes() == content(shards[0])
    assert again.downloads == 1


def spoil(monkeypatch, times: int) -> None:
    read_bytes = storage.read_bytes

    def read(url, start, end):
        nonlocal times
        data = read_bytes(url, start, end)
        if start == PART and times > 0:
            times -= 1
            return data[:7] + bytes([data[7] ^ 1]) + data[8:]
        return data

    monkeypatch.setattr(storage, "read_bytes", read)


def test_wrong_bytes_once(log, shards, open_cache, monkeypatch):
    spoil(monkeypatch, 1)
    cache = open_cache(2)
    use(cache, shards[0])
    assert cache.downloads == 1
    assert cache.fetched_bytes == 2 * SIZE


def test_wrong_bytes_always(log, shards, folder, open_cache, monkeypatch):
    spoil(monkeypatch, 1000)
    data = bytearray(content(shards[0]))
    data[PART + 7] ^= 1
    with pytest.raises(CacheError) as caught:
        open_cache(2).hold(shards[0])
    for words in (shards[0].url, shards[0].sha256, hashlib.sha256(data).hexdigest()):
        assert words in str(caught.value)
    assert sum(requests(log).values()) == 2 * -(-SIZE // PART)
    assert names(folder, ".part") == names(folder, ".shard") == []
    unverified = open_cache(2, verify=False)
    assert Path(unverified.hold(shards[0])).read_bytes() == bytes(data)


def test_a_shard_cut_short_or_missing(log, shards, folder, open_cache):
    os.truncate(shards[0].url, SIZE - 5)
    os.unlink(shards[1].url)
    cache = open_cache(2)
    with pytest.raises(CacheError, match="ends at byte 39,995, the manifest says 40,000"):
        cache.hold(shards[0])
    with pytest.raises(MissingError, match=r"001\.tar: does not exist"):
        cache.hold(shards[1])
    assert names(folder, ".part") == []


def test_what_the_dead_left_is_removed_and_nothing_else(log, shards, folder, open_cache):
    folder.mkdir()
    left = [folder / f"{shards[0].sha256}-{SIZE}.part", folder / f"{shards[7].sha256}-{SIZE}.part"]
    left.append(folder / f"{shards[6].sha256}.wanted")
    for path in left:
        path.write_bytes(b"x" * 100)
    (folder / "somebody's notes.part").write_bytes(b"x")
    cache = open_cache(1)
    use(cache, shards[0])
    assert names(folder, ".wanted") == []
    assert names(folder, ".part") == ["somebody's notes.part"]
    left[1].write_bytes(b"x" * 100)
    use(cache, shards[1])
    assert names(folder, ".part") == ["somebody's notes.part"]


def test_prefetch_brings_in_order_and_waits_for_room(log, shards, folder, open_cache):
    cache = open_cache(4)
    cache.hold(shards[7])
    cache.prefetch(shards[:6])
    wait_until(lambda: len(cached(folder)) == 4)
    first = {shard.sha256 for shard in (shards[7], *shards[:3])}
    assert cached(folder) == first
    other = open_cache(4)  # its prefetch does not take what is announced either
    other.prefetch([shards[6]])
    cache.hold(shards[0])
    assert cache.downloads == 4
    cache.release(shards[7])
    wait_until(lambda: shards[7].sha256 not in cached(folder) and len(cached(folder)) == 4)
    assert {shard.sha256 for shard in shards[:3]} <= cached(folder)
    assert cached(folder) & {shards[3].sha256, shards[6].sha256}
    assert set(requests(log).values()) == {1}


def test_hold_takes_the_room_of_what_is_only_announced(log, shards, folder, open_cache):
    cache, other = open_cache(3), open_cache(3)
    cache.prefetch(shards[:6])
    wait_until(lambda: len(cached(folder)) == 3)
    for shard in shards[5:8]:
        other.hold(shard)
    assert cached(folder) == {shard.sha256 for shard in shards[5:8]}
    for shard in shards[5:8]:
        other.release(shard)
    use(cache, *shards[:6])


def test_prefetched_by_the_dead_is_not_protected(log, shards, folder, open_cache):
    gone = open_cache(2)
    gone.prefetch(shards[:2])
    wait_until(lambda: len(cached(folder)) == 2)
    gone.close()
    cache = open_cache(2)
    cache.prefetch(shards[2:4])
    wait_until(lambda: cached(folder) == {shard.sha256 for shard in shards[2:4]})


def test_what_was_announced_is_ordinary_after_its_use(log, shards, folder, open_cache):
    cache = open_cache(2)
    cache.prefetch(shards[:2])
    use(cache, *shards[:2])
    cache.prefetch(shards[2:4])
    wait_until(lambda: cached(folder) == {shard.sha256 for shard in shards[2:4]})


def test_prefetch_errors_surface_at_hold(log, shards, folder, open_cache, caplog):
    os.unlink(shards[0].url)
    cache = open_cache(4)
    cache.prefetch(shards[:2])
    wait_until(lambda: len(cached(folder)) == 1)
    wait_until(lambda: "not fetched ahead" in caplog.text)
    with pytest.raises(MissingError, match=r"000\.tar"):
        cache.hold(shards[0])
    use(cache, shards[1])
    assert cache.downloads == 1


def test_close_stops_prefetching(shards, folder, tmp_path, monkeypatch, open_cache):
    write_down_requests(tmp_path / "log", monkeypatch.setattr, seconds_each=0.02)
    cache = open_cache(8)
    cache.prefetch(shards)
    wait_until(lambda: names(folder, ".part"))
    cache.close()
    assert names(folder, ".part") == []
    assert not [thread for thread in threading.enumerate() if thread.name == "shard prefetch"]
    use(cache, shards[0])


def test_a_copy_holds_nothing(log, shards, open_cache):
    cache = open_cache(1)
    cache.hold(shards[0])
    copy = pickle.loads(pickle.dumps(cache))
    assert copy.fetched_bytes == 0
    assert copy.hold(shards[0]) == cache.hold(shards[0])
    assert copy.requests == 0
    copy.close()


def test_a_forked_child_keeps_nothing_alive(log, shards, open_cache):
    cache = open_cache(1, wait=10)
    cache.hold(shards[0])
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writes)
        os.read(reads, 1)  # until the parent closes its end
        os._exit(17 if cache._holds else 0)
    os.close(reads)
    try:
        cache.release(shards[0])
        cache.hold(shards[1])
    finally:
        os.close(writes)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0


def test_a_lock_ends_when_it_is_closed_whoever_shares_it(tmp_path):
    """As a child does in the moment before it closes its copies."""
    path = str(tmp_path / "file")
    file = LockFile(path, os.O_RDWR | os.O_CREAT)
    shared = os.dup(file.fd)
    other = LockFile(path, os.O_RDWR)
    assert file.lock(EXCLUSIVE)
    assert not other.lock(SHARED)
    file.close()
    assert other.lock(EXCLUSIVE)
    os.close(shared)


def test_a_forked_child_lets_go_of_its_parents_downloads(log, shards, folder, open_cache):
    """Were the parent killed, nobody else would hold the lock of its download."""
    cache = open_cache(2)
    claim = cache._folder.admit(shards[0], ahead=False)
    child = os.fork()
    if child == 0:
        os._exit(0 if claim.file.fd == -1 and names(folder, ".part") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    progress = open_cache(2)._folder.admit(shards[0], ahead=False).progress
    assert progress[1] == 0
    cache._folder.abandon(claim)


@pytest.mark.parametrize("kind", ["a file", "below a file", "remote"])
def test_a_folder_that_cannot_be(log, shards, tmp_path, kind):
    (tmp_path / "file").write_text("")
    place = {"a file": "file", "below a file": "file/cache"}
    with pytest.raises(CacheError, match=r"data\.cache\.folder"):
        ShardCache("s3://bucket/x" if kind == "remote" else str(tmp_path / place[kind]), 10**6).hold(
            shards[0]
        )


def test_a_digest_that_is_none():
    with pytest.raises(CacheError, match=r"s3://a/b: '\.\./\.\./x' is not a SHA-256"):
        CachedShard("s3://a/b", 1, "../../x")


def test_disk_full_by_surprise(log, shards, folder, open_cache, monkeypatch):
    """Writing fails although room was seen, as under a quota: unused shards go, once."""
    cache = open_cache(6)
    use(cache, *shards[:3])
    cache.hold(shards[2])
    write, failures = os.write, [1]

    def fail(file, data):
        if len(data) <= PART and failures[0] and os.fstat(file).st_size == PART:
            failures[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(os, "write", fail)
    use(cache, shards[3])
    assert cached(folder) == {shard.sha256 for shard in shards[1:4]}
    failures[0] = 2
    with pytest.raises(
        CacheError, match=r"No space left on device: .*004\.tar needs 40,000 bytes, [\d,]+ are free"
    ):
        cache.hold(shards[4])
    failures[0] = 2
    with pytest.raises(CacheError, match="no unused shard is left to remove"):
        cache.hold(shards[4])
    assert names(folder, ".part") == []
    assert shards[2].sha256 in cached(folder)


@pytest.fixture
def small_disk(folder):
    """The cache folder on a disk of 128 KiB."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_a_disk_smaller_than_the_capacity(log, shards, small_disk, open_cache):
    cache = open_cache(100, wait=0.1)
    use(cache, *shards)
    assert len(cached(small_disk)) == 3
    for shard in shards[:3]:
        cache.hold(shard)
    with pytest.raises(
        CacheError, match=r"no room .*003\.tar.*the disk has [\d,]+ free, and 120,000 bytes are held"
    ):
        cache.hold(shards[3])
    for shard in shards[:3]:
        cache.release(shard)
    (small_disk / f"{shards[0].sha256}.shard").unlink()
    (small_disk / "somebody's").write_bytes(b"x" * 20_000)
    use(cache, *shards)
    assert len(cached(small_disk)) == 2
    assert names(small_disk, ".part") == []


def test_a_disk_full_of_other_things(log, shards, small_disk, open_cache):
    (small_disk / "somebody's").write_bytes(b"x" * 100_000)
    cache = open_cache(100, wait=1000)
    with pytest.raises(
        CacheError, match=r"the disk has [\d,]+ free.*put data\.cache\.folder on a larger disk"
    ):
        cache.hold(shards[0])
    assert not requests(log)


@pytest.mark.slow
@pytest.mark.s3
def test_from_s3(s3_folder, faulty_s3, tmp_path, shards, folder, open_cache, monkeypatch):
    monkeypatch.setattr(storage, "DOWNLOAD_PART", PART)
    remote = []
    for shard in shards:
        url = storage.join(s3_folder, "data", os.path.basename(shard.url))
        storage.publish_bytes(url, content(shard))
        remote.append(CachedShard(url, shard.size, shard.sha256))
    before = faulty_s3.requests  # which are read by GET
    cache = open_cache(8)
    cache.prefetch(remote)
    for _ in range(2):
        for local, shard in zip(shards, remote, strict=True):
            assert Path(cache.hold(shard)).read_bytes() == content(local)
            cache.release(shard)
        assert faulty_s3.requests - before == 8 * 3
    assert cache.fetched_bytes == 8 * SIZE
    with pytest.raises(MissingError, match=r"s3://.*/none: does not exist"):
        cache.hold(CachedShard(storage.join(s3_folder, "none"), 10, "0" * 64))
