from __future__ import annotations

import itertools
import logging
import os
import pickle
import shutil
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools import audio, storage
from shard_tools.dataset.catalogue import Catalogue, open_catalogue
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read import ranged, verified
from shard_tools.read.ranged import GAP, RangedSource, spans
from shard_tools.read.reader import Reader, ReadError
from shard_tools.read.source import LocalSource, RangeError, Unheeding
from shard_tools.read.verified import VerifiedSource
from shard_tools.storage import StoragePolicy

CROP = 200 * 160 + 240


@pytest.mark.slow
@given(
    ranges=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40_000), st.integers(0, 9_000)), max_size=30)
)
def test_spans_hold_every_range_once_and_little_else(ranges):
    shards, offsets, lengths = zip(*ranges, strict=True) if ranges else ((), (), ())
    made = spans(shards, offsets, lengths)
    held = sorted(position for span in made for position in span.positions)
    assert held == [position for position, length in enumerate(lengths) if length]
    for span in made:
        covered = np.zeros(span.end - span.start + 2, bool)
        covered[[0, -1]] = True
        for p in span.positions:
            assert (shards[p], True) == (span.shard, span.start <= offsets[p])
            assert offsets[p] + lengths[p] <= span.end
            covered[offsets[p] - span.start + 1 : offsets[p] - span.start + lengths[p] + 1] = True
        gaps = np.diff(np.flatnonzero(covered)) - 1
        assert gaps.max() <= GAP
    for one, other in itertools.pairwise(made):
        assert one.shard != other.shard or other.start - one.end > GAP


def test_spans_do_not_grow_beyond_bounds(monkeypatch):
    monkeypatch.setattr(ranged, "LONGEST", 1000)
    made = spans([0] * 10, list(range(0, 4000, 400)), [400] * 10)
    assert [(span.start, span.end) for span in made] == [
        (at, min(at + 800, 4000)) for at in range(0, 4000, 800)
    ]
    assert [len(span.positions) for span in spans([0, 0], [0, 0], [5000, 5000])] == [2]


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    """WAVs of three to six seconds, of three speakers, in shards of eight."""
    folder = tmp_path_factory.mktemp("ranged")
    random = np.random.default_rng(3)
    for number in range(24):
        path = folder / f"audio/id{number % 3}/{number:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = random.integers(-9000, 9000, 48_000 + 2_000 * number).astype(np.int16)
        path.write_bytes(audio.encode(samples, "wav"))
    options = PackOptions(utterances_per_shard=8)
    pack(str(folder / "audio"), str(folder / "out"), options=options)
    return folder / "out"


@pytest.fixture
def in_memory(packed) -> str:
    """The URL of the same shards in fsspec's memory filesystem, whose every read is a ranged one."""
    url = "memory://ranged"
    for file in packed.iterdir():
        storage.publish_bytes(storage.join(url, file.name), file.read_bytes())
    return url


def random_crops(
    catalogue: Catalogue, count: int, frames: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    utterances = random.integers(0, len(catalogue), count)
    return utterances, random.integers(0, catalogue.frames[utterances] - frames + 1)


@pytest.mark.slow
@pytest.mark.parametrize(("verify", "most"), [("none", 1.05), ("crops", 1.3)])
def test_little_more_is_fetched_than_the_crops(in_memory, packed, verify, most):
    catalogue = open_catalogue(in_memory, block_crcs=True)
    source = RangedSource(catalogue.shard_urls, catalogue.shard_sizes)
    reader = Reader(catalogue, source, verify)
    own = 0
    for seed in range(20):
        utterances, starts = random_crops(catalogue, 6, CROP, seed)
        expected = Reader(open_catalogue(str(packed))).crops(utterances, starts, CROP)
        assert np.array_equal(reader.crops(utterances, starts, CROP), expected)
        own += len({*zip(utterances.tolist(), starts.tolist(), strict=True)}) * CROP * 2
    # crops that overlap are fetched once, so there can be less than the crops' own bytes as well
    assert 0.8 * own < source.fetched_bytes <= most * own
    assert source.requests <= 120


def test_whole_neighbours_are_one_request(in_memory):
    catalogue = open_catalogue(in_memory)
    first = np.flatnonzero(catalogue.shard == 1)
    reader = Reader(catalogue)
    reader.crops(first, np.zeros(len(first), np.int64), int(catalogue.frames[first].max()))
    assert isinstance(reader.source, RangedSource)
    assert reader.source.requests == 1
    assert reader.source.fetched_bytes < 1.05 * catalogue.frames[first].sum() * 2


def test_requests_under_way_are_many_but_bounded(in_memory, monkeypatch, storage_policy):
    storage_policy(StoragePolicy(connections=3))
    under_way, most = 0, 0
    lock, all_there = threading.Lock(), threading.Barrier(3)
    read = storage.read_range

    def counted(*arguments: object) -> bytes:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        all_there.wait(30)
        data = read(*arguments)
        with lock:
            under_way -= 1
        return data

    monkeypatch.setattr(storage, "read_range", counted)
    catalogue = open_catalogue(in_memory)
    reader = Reader(catalogue)
    utterances = np.arange(0, 24, 2)
    for _ in range(2):
        reader.crops(utterances, np.full(12, 16_000), 1000)
    assert most == 3
    assert reader.source.requests == 24
    assert len([t for t in threading.enumerate() if t.name.startswith("ranges")]) >= 3


def test_ranges_on_both_sides_of_a_fork(in_memory, packed):
    catalogue = open_catalogue(in_memory)
    reader = pickle.loads(pickle.dumps(Reader(catalogue)))
    utterances, starts = random_crops(catalogue, 9, 500)
    expected = Reader(open_catalogue(str(packed))).crops(utterances, starts, 500)
    assert np.array_equal(reader.crops(utterances, starts, 500), expected)
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(reader.crops(utterances, starts, 500), expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(reader.crops(utterances, starts, 500), expected)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_the_guilty_row_of_a_joined_request_is_named(in_memory, damage):
    catalogue = open_catalogue(in_memory)
    shard = catalogue.shard_urls[2]
    rows = np.flatnonzero(catalogue.shard == 2)[:3]
    if damage == "cut":
        storage.publish_bytes(shard, storage.read_bytes(shard)[: int(catalogue.pcm_offset[rows[1]]) + 10])
    else:
        storage.remove(shard)
    other = np.flatnonzero(catalogue.shard == 0)[:1]
    utterances = np.concatenate([other, rows])
    with pytest.raises(ReadError) as caught:
        Reader(catalogue).crops(utterances, np.zeros(4, np.int64), 100_000)
    error = pickle.loads(pickle.dumps(caught.value))
    row = 2 if damage == "cut" else 1
    assert (error.row, error.url, error.key) == (row, shard, catalogue.key(int(utterances[row])))
    assert error.offset == catalogue.pcm_offset[utterances[row]]
    assert ("cut short" if damage == "cut" else "does not exist") in str(error)


class Liar(Unheeding):
    """A source that flips a bit of the first ranges it fills."""

    at_once = True

    def __init__(self, source: LocalSource, lies: int) -> None:
        self.source, self.lies, self.calls = source, lies, 0

    def fill(self, shards, offsets, buffers) -> None:
        self.calls += 1
        self.source.fill(shards, offsets, buffers)
        if self.lies:
            self.lies -= 1
            buffers[-1][0] ^= 1


@pytest.mark.slow
@given(data=st.data())
def test_every_flipped_bit_around_a_crop_is_found(data):
    size = data.draw(st.integers(1, 40_000))
    content = np.random.default_rng(size).bytes(size)
    crcs = np.array([zlib.crc32(content[at : at + 8192]) for at in range(0, size, 8192)], np.uint32)
    offset = data.draw(st.integers(0, size - 1))
    length = data.draw(st.integers(1, size - offset))
    flipped = data.draw(st.none() | st.integers(0, size - 1))
    held = bytearray(content)
    if flipped is not None:
        held[flipped] ^= 1 << data.draw(st.integers(0, 7))

    class Source:
        def fill(self, shards, offsets, buffers) -> None:
            for at, buffer in zip(offsets, buffers, strict=True):
                buffer[:] = held[at : at + len(buffer)]

    buffer = bytearray(length)
    source = VerifiedSource(Source(), [size], lambda shard: crcs)
    first, last = offset // 8192, (offset + length - 1) // 8192
    if flipped is not None and first <= flipped // 8192 <= last:
        with pytest.raises(RangeError, match=r"have CRC-32 .*, the index says .*, also when read 3 times"):
            source.fill([0], [offset], [memoryview(buffer)])
        assert source.mismatches == 1
    else:
        source.fill([0], [offset], [memoryview(buffer)])
        assert buffer == content[offset : offset + length]


def test_a_block_that_is_wrong_once_is_read_again(packed, caplog):
    catalogue = open_catalogue(str(packed), block_crcs=True)
    source = Liar(LocalSource(catalogue.shard_urls), lies=1)
    reader = pickle.loads(pickle.dumps(Reader(catalogue, source, "crops")))
    utterances, starts = random_crops(catalogue, 5, 3000)
    with caplog.at_level(logging.WARNING, verified.__name__):
        found = reader.crops(utterances, starts, 3000)
    assert np.array_equal(found, Reader(catalogue).crops(utterances, starts, 3000))
    assert reader.source.calls == 2
    assert "the index says" in caplog.text


def test_damage_is_named_with_both_checksums(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "out")
    catalogue = open_catalogue(str(tmp_path / "out"), block_crcs=True)
    utterances = np.arange(4, 8)
    at = int(catalogue.pcm_offset[6]) + 9000
    with open(catalogue.shard_urls[catalogue.shard[6]], "r+b") as file:
        file.seek(at)
        file.write(b"\0\1")
    with pytest.raises(
        ReadError, match=r"bytes \d+ to \d+ have CRC-32 \w{8}, the index says \w{8}"
    ) as caught:
        Reader(catalogue, verify="crops").crops(utterances, np.full(4, 1000), 9000)
    assert (caught.value.row, caught.value.key) == (2, catalogue.key(6))
    assert str(int(catalogue.block_crc32[0])) not in str(caught.value)
    Reader(catalogue).crops(utterances, np.full(4, 1000), 9000)


def test_verifying_needs_the_checksums(packed):
    with pytest.raises(ValueError, match="block_crcs=True"):
        Reader(open_catalogue(str(packed)), verify="crops")


def test_sources_that_may_ask_for_other_numbers_at_once_keep_their_threads():
    crew = ranged._crew(4)
    assert ranged._crew(5) is not crew
    assert ranged._crew(4) is crew
