from __future__ import annotations

import os
from functools import partial

import numpy as np
import pytest

from shard_tools import storage
from shard_tools.apart import apart
from shard_tools.dataset import catalogue
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.storage import MissingError, read_bytes


@pytest.mark.slow
def test_results_come_in_order_and_from_other_processes(tmp_path):
    for number in range(3):
        (tmp_path / str(number)).write_bytes(bytes([number]))
    paths = [str(tmp_path / str(number)) for number in range(3)]
    assert list(apart(partial(read_bytes, start=0, end=9), paths)) == [b"\0", b"\1", b"\2"]
    there = [f"/proc/self/{name}" for name in ("stat", "stat")]
    assert os.getpid() not in {int(data.split()[0]) for data in apart(read_bytes, there)}
    assert int(next(iter(apart(read_bytes, there[:1]))).split()[0]) == os.getpid()


@pytest.mark.slow
def test_what_a_process_cannot_do_is_done_here():
    """Another process has a memory:// of its own."""
    urls = [f"memory://apart/{number}" for number in range(2)]
    for url in urls:
        storage.publish_bytes(url, url.encode())
    assert list(apart(read_bytes, urls)) == [url.encode() for url in urls]
    with pytest.raises(MissingError, match="memory://apart/absent"):
        list(apart(read_bytes, [urls[0], "memory://apart/absent"]))


@pytest.mark.slow
@pytest.mark.s3
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
