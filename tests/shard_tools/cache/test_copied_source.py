"""Recordings are read from where they lie until the node has copies of them, and then from those."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path

import pytest
from cache_fakes import each_part_once, make_shards, names, requests, wait_until, write_down_requests

from shard_tools.cache import copies as copies_module
from shard_tools.cache.copied_source import CopiedSource
from shard_tools.cache.copies import NodeCopies
from shard_tools.cache.folder import CacheFolder
from shard_tools.cache.shard import CachedShard, CacheError
from shard_tools.read.source import LocalSource, RangeError

SIZE = 40_000
ROOM = 10**6


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(copies_module, "_LOOK_S", 0.0)


@pytest.fixture
def log(tmp_path, monkeypatch):
    write_down_requests(tmp_path / "requests", monkeypatch.setattr)
    return tmp_path / "requests"


@pytest.fixture
def shards(tmp_path):
    return make_shards(tmp_path / "shards", [SIZE] * 4)


@pytest.fixture
def open_source(tmp_path, shards):
    opened = []

    def open_it(**options) -> CopiedSource:
        copies = NodeCopies(str(tmp_path / "copies"), options.pop("of", shards), **{"room": ROOM} | options)
        copies.prepare()
        opened.append(copies)
        return CopiedSource(LocalSource([shard.url for shard in shards]), copies, [s.sha256 for s in shards])

    yield open_it
    for each in opened:
        each.close()


def read(source: CopiedSource, shards, numbers=(0, 1, 2, 3), offset=1000, size=5000) -> None:
    buffers = [bytearray(size) for _ in numbers]
    source.fill(numbers, [offset] * len(numbers), [memoryview(buffer) for buffer in buffers])
    for number, buffer in zip(numbers, buffers, strict=True):
        assert buffer == Path(shards[number].url).read_bytes()[offset : offset + size]


def whole(source: CopiedSource, shards) -> bool:
    read(source, shards)
    return source.at_once


def test_it_reads_directly_first_and_then_from_copies_alone(tmp_path, shards, open_source, monkeypatch):
    write_down_requests(tmp_path / "requests", monkeypatch.setattr, seconds_each=0.2)
    source = open_source()
    read(source, shards)
    assert not source.at_once
    wait_until(lambda: whole(source, shards))
    before = source.direct.fetched_bytes
    assert before >= 4 * 5000
    for shard in shards:
        os.rename(shard.url, f"{shard.url}.away")
    taken = source.copied_bytes
    source.fill([2], [0], [memoryview(buffer := bytearray(SIZE))])
    assert buffer == Path(f"{shards[2].url}.away").read_bytes()
    assert source.direct.fetched_bytes == before
    assert source.copied_bytes == taken + SIZE


def test_one_process_brings_them_and_another_goes_on_when_it_ends(log, shards, open_source):
    first, second = open_source(), open_source()
    read(first, shards)
    read(second, shards)
    wait_until(lambda: whole(first, shards) and whole(second, shards))
    assert requests(log) == each_part_once(shards)
    first.copies.close()
    lost = CacheFolder(first.copies.folder, ROOM, 1).path(shards[1])
    second.copies.close()
    os.unlink(lost)
    third = open_source()
    wait_until(lambda: whole(third, shards))
    assert requests(log) == each_part_once([*shards, shards[1]])


def test_who_is_not_the_first_choice_waits_for_a_while(log, shards, open_source, monkeypatch):
    source = open_source(eager=False)
    for _ in range(3):
        read(source, shards)
    assert names(Path(source.copies.folder), ".shard") == []
    assert not requests(log)
    monkeypatch.setattr(copies_module, "_LATER_S", 0.0)
    wait_until(lambda: whole(source, shards))


def test_shards_that_are_not_to_be_copied_are_read_directly(shards, open_source):
    source = open_source(of=shards[:2])
    wait_until(lambda: whole(source, shards))
    assert len(names(Path(source.copies.folder), ".shard")) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [({"spare": 10**18}, "half is to stay so"), ({"room": SIZE // 2}, "no room for")],
)
def test_without_room_all_is_read_directly_with_one_warning(shards, open_source, caplog, options, said):
    sources = [open_source(**options), open_source(**options)]
    for source in sources:
        read(source, shards)
    wait_until(lambda: caplog.records and caplog.records[-1].levelno == logging.WARNING)
    for source in sources:
        for _ in range(3):
            read(source, shards)
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert said in warning.getMessage()
    assert "augment.copy" in warning.getMessage()
    assert not any(source.at_once for source in sources)


def test_bytes_that_are_not_the_manifests_are_never_read_as_a_copy(shards, open_source, caplog):
    wrong = [shards[0], CachedShard(shards[1].url, SIZE, "0" * 64), *shards[2:]]
    source = open_source(of=wrong)
    read(source, shards)
    wait_until(lambda: any("packed anew or damaged" in text for text in caplog.messages))
    read(source, shards)
    assert not (Path(source.copies.folder) / f"{'0' * 64}.shard").exists()


def test_a_copy_that_cannot_be_read_is_given_up(shards, open_source):
    source = open_source()
    wait_until(lambda: whole(source, shards))
    os.truncate(CacheFolder(source.copies.folder, ROOM, 1).path(shards[3]), 10)
    before = source.direct.fetched_bytes
    read(source, shards)
    read(source, shards)
    assert source.direct.fetched_bytes == before + 2 * 5000


def test_what_cannot_be_read_at_all_is_told_by_its_place_in_the_request(shards, open_source):
    source = open_source(of=shards[:2])
    wait_until(lambda: whole(source, shards))
    buffers = [memoryview(bytearray(10)) for _ in range(4)]
    with pytest.raises(RangeError) as caught:
        source.fill([0, 1, 2, 3], [0, 0, 0, SIZE - 5], buffers)
    assert caught.value.position == 3


def test_copies_in_use_do_not_give_way_and_others_do(shards, open_source):
    source = open_source()
    wait_until(lambda: whole(source, shards))
    other = CacheFolder(source.copies.folder, ROOM, 1)
    assert other.evict(10**9, ahead=False) == 0
    source.copies.close()
    assert other.evict(10**9, ahead=False) == 4 * SIZE


def test_few_open_files_are_enough(shards, open_source, monkeypatch):
    monkeypatch.setattr(copies_module, "OPEN_FILES", 2)
    source = open_source()
    wait_until(lambda: whole(source, shards))
    before = source.direct.fetched_bytes
    read(source, shards)
    assert source.direct.fetched_bytes == before
    assert len(source.copies._files) <= 2


def test_a_pickled_source_finds_the_copies_by_itself(shards, open_source):
    source = open_source()
    wait_until(lambda: whole(source, shards))
    other = pickle.loads(pickle.dumps(source))
    read(other, shards)
    assert other.at_once
    assert other.direct.fetched_bytes == 0
    other.copies.close()


def test_a_folder_that_cannot_be_used_is_an_error_at_once(tmp_path, shards):
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match=r"augment\.copy\.folder"):
        NodeCopies(str(tmp_path / "file" / "below"), shards, room=ROOM).prepare()
