from __future__ import annotations

import os
import time
from functools import partial

import numpy as np
import pytest
from interrupts import unnoticed_interrupt

from shard_tools import apart as apart_module
from shard_tools import storage
from shard_tools.apart import apart, in_forks, swiftly
from shard_tools.dataset import catalogue
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.storage import MissingError, StorageError, read_bytes


@pytest.fixture(params=[True, False], ids=["forked", "fresh"])
def forked(request, monkeypatch):
    monkeypatch.setattr(apart_module, "may_fork", lambda: request.param)
    return request.param


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_results_come_in_order_and_from_other_processes(tmp_path):
    for number in range(3):
        (tmp_path / str(number)).write_bytes(bytes([number]))
    paths = [str(tmp_path / str(number)) for number in range(3)]
    assert list(apart(partial(read_bytes, start=0, end=9), paths)) == [b"\0", b"\1", b"\2"]
    there = [f"/proc/self/{name}" for name in ("stat", "stat")]
    assert os.getpid() not in {int(data.split()[0]) for data in apart(read_bytes, there)}
    assert int(next(iter(apart(read_bytes, there[:1]))).split()[0]) == os.getpid()


@pytest.mark.slow
@pytest.mark.usefixtures("forked")
def test_what_a_process_cannot_do_is_done_here():
    """Another process has a memory:// of its own."""
    urls = [f"memory://apart/{number}" for number in range(2)]
    for url in urls:
        storage.publish_bytes(url, url.encode())
    assert list(apart(read_bytes, urls)) == [url.encode() for url in urls]
    with pytest.raises(MissingError, match="memory://apart/absent"):
        list(apart(read_bytes, [urls[0], "memory://apart/absent"]))


@pytest.mark.usefixtures("forked")
def test_an_interrupt_that_ends_no_wait_is_heard():
    unnoticed_interrupt(0.3)
    with pytest.raises(KeyboardInterrupt):
        list(apart(time.sleep, [60, 60]))


def test_a_fork_has_what_is_here_and_does_a_single_item_too():
    held = os.getpid()
    [found] = in_forks(lambda item: (os.getpid(), os.getppid(), held, item), ["item"])
    assert found[0] != held
    assert found[1:] == (held, held, "item")


def test_an_error_of_a_fork_is_raised_here_and_not_met_twice(tmp_path):
    tried = tmp_path / "tried"

    def fail(_):
        with tried.open("a") as file:
            file.write("x")
        raise StorageError("s3://bucket/key: gave up", passing=True)

    with pytest.raises(StorageError, match=r"^s3://bucket/key: gave up$") as caught:
        list(in_forks(fail, [0]))
    assert caught.value.passing
    assert tried.read_text() == "x"


@pytest.mark.parametrize("end", [lambda: os._exit(3), lambda: 1 // 0, lambda: os.kill(os.getpid(), 9)])
def test_what_a_fork_dies_of_is_done_here(end):
    here = os.getpid()
    assert list(in_forks(lambda item: item if os.getpid() == here else end(), [1, 2])) == [1, 2]


def test_a_large_result_of_a_fork():
    [found] = in_forks(lambda _: np.arange(1 << 20), [None])
    assert np.array_equal(found, np.arange(1 << 20))


def test_only_what_forks_read_faster_is_read_by_one(monkeypatch):
    assert swiftly("memory://x", os.getpid) == os.getpid()
    monkeypatch.setattr(storage, "forks_are_faster", lambda url: url == "s3://bucket/x")
    monkeypatch.setattr(apart_module, "may_fork", lambda: True)
    assert swiftly("s3://bucket/x", os.getpid) != os.getpid()
    assert swiftly("s3://bucket/y", os.getpid) == os.getpid()
    with pytest.raises(UserError, match="no"):
        swiftly("s3://bucket/x", lambda: (_ for _ in ()).throw(UserError("no")))


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.usefixtures("forked")
def test_a_remote_catalogue_is_the_same_by_several_processes(tmp_path, s3_folder, monkeypatch):
    from wav_files import tone, wav

    for number in range(9):
        path = tmp_path / "audio" / f"id{number % 4}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav(pcm=tone(1600 + number).tobytes()))
    options = PackOptions(utterances_per_shard=2, group=1)
    url = f"{s3_folder}/set"
    pack(str(tmp_path / "audio"), url, options=options)
    alone = open_catalogue(url, block_crcs=True)
    monkeypatch.setattr(catalogue, "_WORTH_A_PROCESS", 1)
    started = []
    monkeypatch.setattr(catalogue, "apart", lambda work, items: started.append(items) or apart(work, items))
    shared = open_catalogue(url, block_crcs=True, processes=2)
    assert [len(items) for items in started] == [2]
    for name in (
        "shard",
        "label",
        "frames",
        "codec",
        "offset",
        "size",
        "pcm_offset",
        "key_ends",
        "block_crc32",
    ):
        assert np.array_equal(getattr(alone, name), getattr(shared, name)), name
    assert [shared.key(u) for u in range(9)] == [alone.key(u) for u in range(9)]
