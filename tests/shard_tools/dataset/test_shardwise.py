"""The shard-wise catalogue: the same answers as the whole one, from the indexes that are asked for alone."""

from __future__ import annotations

import hashlib
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools import storage
from shard_tools.dataset import index as index_file
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.index import ShardIndex, pack_keys
from shard_tools.dataset.layout import places
from shard_tools.dataset.manifest import Manifest, ShardEntry, to_bytes
from shard_tools.dataset.shardwise import open_shardwise
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read.reader import Reader

COLUMNS = ("shard", "label", "frames", "codec", "offset", "size", "pcm_offset")


@pytest.fixture
def packed(corpus, tmp_path):
    pack(str(corpus.root), str(tmp_path / "out"), options=PackOptions(utterances_per_shard=4, group=2))
    return str(tmp_path / "out")


@pytest.mark.slow
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=40))
def test_places_are_what_a_loop_finds(pairs):
    pairs.sort(key=lambda pair: pair[1])
    labels, shard = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    found = places(labels, shard)
    for u, (label, own) in enumerate(pairs):
        assert found.turn[u] == sum(other == label for other, _ in pairs[:u])
        assert found.total[u] == sum(other == label for other, _ in pairs)
        having = sorted({where for other, where in pairs if other == label})
        assert found.next_shard[u] == next((where for where in having if where > own), having[0])


@pytest.mark.parametrize("held", [1, 3, 99])
def test_columns_are_those_of_the_whole_catalogue(packed, held):
    whole, lazy = open_catalogue(packed), open_shardwise(packed, held=held)
    assert lazy.reads == 0
    for name in ("url", "digest", "speakers", "shard_urls", "shard_sizes", "shard_sha256"):
        assert getattr(lazy, name) == getattr(whole, name)
    assert len(lazy) == len(whole)
    assert lazy.hours == pytest.approx(whole.hours)
    rng = np.random.default_rng(0)
    place = places(whole.label, whole.shard)
    expected = {name: getattr(whole, name) for name in COLUMNS} | {"turn": place.turn, "total": place.total}
    for name, column in expected.items():
        for rows in (np.arange(len(whole)), rng.integers(0, len(whole), 30), np.empty(0, np.int64)):
            found = getattr(lazy, name)[rows]
            assert found.dtype == column.dtype
            assert np.array_equal(found, column[rows]), name
        u = int(rng.integers(len(whole)))
        assert getattr(lazy, name)[u] == column[u]
    assert [lazy.key(u) for u in range(len(whole))] == [whole.key(u) for u in range(len(whole))]
    two_and_none = [np.flatnonzero(whole.shard == shard) for shard in (2, 0)]
    assert np.array_equal(lazy.rows(np.array([2, 0])), np.concatenate(two_and_none))


@pytest.mark.parametrize("verify", ["none", "crops"])
def test_a_reader_reads_the_same(packed, verify):
    whole = open_catalogue(packed, block_crcs=True)
    lazy = open_shardwise(packed, held=2, block_crcs=verify == "crops")
    u = np.random.default_rng(1).permutation(len(whole))
    expected = Reader(whole).crops(u, np.full(len(u), 10), 500)
    assert set(whole.codec.tolist()) == {0, 1}
    readers = Reader(lazy, verify=verify), pickle.loads(pickle.dumps(Reader(lazy, verify=verify)))
    for reader in readers:
        assert np.array_equal(reader.crops(u, np.full(len(u), 10), 500), expected)
    with pytest.raises(ValueError, match="block_crcs=True"):
        Reader(open_shardwise(packed, held=2), verify="crops")


@pytest.mark.slow
def test_threads_may_share_it(packed):
    whole, lazy = open_catalogue(packed), open_shardwise(packed, held=2)

    def look(seed):
        rng = np.random.default_rng(seed)
        for _ in range(60):
            rows = rng.integers(0, len(whole), 5)
            if not np.array_equal(lazy.pcm_offset[rows], whole.pcm_offset[rows]):
                return False
            if lazy.key(int(rows[0])) != whole.key(int(rows[0])):
                return False
        return True

    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(look, range(8)))


def test_others_are_of_the_speaker_and_walk_over_its_shards(packed):
    whole, lazy = open_catalogue(packed), open_shardwise(packed, held=3)
    for u in range(len(whole)):
        own = np.flatnonzero(whole.label == whole.label[u])
        near = lazy.others(u, elsewhere=False)
        assert len(near)
        assert u not in near
        here = own[(whole.shard[own] == whole.shard[u]) & (own != u)]
        if len(here):
            assert np.array_equal(near, here)
        reached, at = set(), u
        for _ in range(len(set(whole.shard[own].tolist()))):
            found = lazy.others(at, elsewhere=True)
            assert set(found.tolist()) <= set(own.tolist())
            reached.update(whole.shard[found].tolist())
            at = int(found[0])
        assert reached == set(whole.shard[own].tolist())


def test_the_only_utterance_of_a_speaker_has_no_others(empty_corpus, tmp_path):
    empty_corpus.add("a/v/1.wav")
    empty_corpus.add("b/v/1.wav")
    pack(str(empty_corpus.root), str(tmp_path / "out"))
    lazy = open_shardwise(str(tmp_path / "out"), held=1)
    assert not len(lazy.others(0, elsewhere=False))
    assert not len(lazy.others(1, elsewhere=True))


def test_an_index_of_another_packing_is_refused_when_it_is_needed(packed):
    other = f"{packed}/shard-000001.index.npz"
    storage.publish_bytes(other, storage.read_bytes(f"{packed}/shard-000000.index.npz"))
    lazy = open_shardwise(packed, held=2)
    assert lazy.label[0] >= 0
    with pytest.raises(UserError, match=rf"^{other}: SHA-256 is"):
        lazy.hold([1])


def write_indexes(folder, shards, per_shard, speakers):
    """A dataset without its tars."""
    count = shards * per_shard
    label = (np.arange(count) // 4 * 7 % speakers).astype(np.int32)
    place = places(label, np.arange(count) // per_shard)
    entries = []
    for number in range(shards):
        rows = slice(number * per_shard, (number + 1) * per_shard)
        key_bytes, key_ends = pack_keys([f"k{u:07d}" for u in range(rows.start, rows.stop)])
        index = ShardIndex(
            key_bytes,
            key_ends,
            label=label[rows],
            turn=place.turn[rows],
            total=place.total[rows],
            next_shard=place.next_shard[rows],
            frames=np.full(per_shard, 50_000, np.int64),
            codec=np.zeros(per_shard, np.uint8),
            offset=512 + np.arange(per_shard) * 102_400,
            size=np.full(per_shard, 100_044),
            pcm_offset=512 + np.arange(per_shard) * 102_400 + 44,
            flac_block=np.zeros(per_shard, np.int32),
            flac_offset=np.empty(0, np.uint32),
            block_crc32=np.zeros(-(-102_400 * per_shard // 8192), np.uint32),
            block_size=8192,
            shard_size=102_400 * per_shard,
            shard_sha256=f"{number:064x}",
            inputs="",
        )
        data = index_file.to_bytes(index)
        names = f"{number}.tar", f"{number}.index.npz"
        (folder / names[1]).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        frames = int(index.frames.sum())
        entries.append(
            ShardEntry(names[0], per_shard, index.shard_size, index.shard_sha256, frames, names[1], digest)
        )
    names = tuple(f"s{number:05d}" for number in range(speakers))
    (folder / "manifest.json").write_bytes(to_bytes(Manifest(names, tuple(entries), 16000, "", {})))
    return str(folder)


@pytest.mark.slow
def test_ten_times_the_shards_are_not_read_and_take_no_more_memory(tmp_path):
    held = {}
    for shards in (60, 600):
        folder = tmp_path / str(shards)
        folder.mkdir()
        lazy = open_shardwise(write_indexes(folder, shards, 40, 100), held=12)
        assert lazy.reads == 0
        rng = np.random.default_rng(0)
        for _ in range(10):
            inside = rng.permutation(shards)[:6]
            before = lazy.reads
            lazy.hold(inside.tolist())
            assert lazy.reads - before <= 6
            rows = lazy.rows(inside)
            assert set(lazy.label[rows].tolist()) <= set(range(100))
            assert len(lazy.pcm_offset[rows]) == 240
            assert lazy.reads - before <= 6, "a window's columns read indexes that it had held"
        held[shards] = lazy.held_bytes
        assert lazy.reads <= 60
    assert held[60] == held[600]
