from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools import audio, storage
from shard_tools.audio.flac_frames import (
    HEAD_BYTES,
    FrameTables,
    decode_piece,
    find_frames,
    frame_header,
    table_lengths,
)
from shard_tools.dataset import index as index_file
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.verification import verify
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read.ranged import RangedSource
from shard_tools.read.reader import Reader, ReadError

BLOCK = 4096  # libsndfile's


def speech_like(frames: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 3000, frames + 8)
    return np.convolve(noise, np.ones(9) / 9, "valid").astype(np.int16)


def loud(frames: int) -> np.ndarray:
    """What FLAC stores as it is, byte for byte."""
    return np.random.default_rng(1).integers(-(2**15), 2**15, frames).astype(np.int16)


def tables_of(file: bytes, samples: int) -> FrameTables:
    table = find_frames(file)
    assert table is not None
    return FrameTables.of(np.array([table.block], np.int32), table.offset, np.array([samples]))


def crop(file: bytes, tables: FrameTables, samples: int, start: int, count: int) -> np.ndarray:
    piece = tables.piece(0, start, count, samples=samples, size=len(file))
    assert piece is not None
    return decode_piece(bytearray(HEAD_BYTES) + file[piece.start : piece.end], piece, start, count, "x")


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_frames_alone_decode_to_what_the_whole_does(data):
    near = st.builds(
        lambda blocks, more: max(blocks * BLOCK + more, 1), st.integers(0, 5), st.integers(-2, 2)
    )
    samples = data.draw(near | st.integers(1, 5 * BLOCK))
    make = data.draw(st.sampled_from([speech_like, loud, lambda n: np.zeros(n, np.int16)]))
    file = audio.encode(make(samples), "flac")
    start = data.draw(st.integers(0, samples - 1) | st.sampled_from([0, samples - 1]))
    count = data.draw(st.integers(1, samples - start) | st.just(samples - start))
    tables = tables_of(file, samples)
    assert len(tables.offset) == -(-samples // BLOCK)
    found = crop(file, tables, samples, start, count)
    assert np.array_equal(found, audio.decode(file, "x")[start : start + count])


@pytest.mark.parametrize("samples", [130 * BLOCK + 5, 2050 * BLOCK])
def test_frame_numbers_of_two_and_three_bytes(samples):
    audio_ = np.tile(speech_like(16 * BLOCK), samples // 16 // BLOCK + 1)[:samples]
    file = audio.encode(audio_, "flac")
    tables = tables_of(file, samples)
    for start in (0, 127 * BLOCK - 9, 128 * BLOCK, samples - 5000):
        assert np.array_equal(crop(file, tables, samples, start, 5000), audio_[start : start + 5000])


def fooling(number: int, samples: int = 5 * BLOCK + 700) -> np.ndarray:
    """Audio in whose FLAC the header of frame `number` is found twice."""
    audio_ = loud(samples)
    file = audio.encode(audio_, "flac")
    table = find_frames(file)
    assert table is not None
    at = int(table.offset[number])
    inside = (number - 1) * BLOCK + 100
    audio_[inside : inside + 4] = np.frombuffer(file[at : at + 8], ">i2").astype(np.int16)
    return audio_


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_header_in_the_midst_of_audio_leaves_no_table(number):
    file = audio.encode(fooling(number), "flac")
    numbers = [header[0] for at in range(len(file)) if (header := frame_header(file, at)) is not None]
    assert numbers.count(number) == 2
    assert find_frames(file) is None


def other_block_sizes(file: bytes) -> bytes:
    return file[:8] + (16).to_bytes(2, "big") + file[10:]


@pytest.mark.parametrize("damage", [other_block_sizes, lambda file: file[:9000], lambda file: file[:42]])
def test_unusual_or_broken_streams_have_no_table(damage):
    file = audio.encode(speech_like(3 * BLOCK), "flac")
    assert len(file) > 12000
    assert find_frames(damage(file)) is None


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=300))
def test_any_bytes_may_be_looked_at(head, body):
    find_frames(b"fLaC\x80\x00\x00\x22" + head + b"\xff\xf8\xc5\x08" + body)
    frame_header(b"\xff\xf8" + head, 0)


def test_every_flipped_bit_is_noticed():
    samples = 6 * BLOCK
    file = audio.encode(speech_like(samples), "flac")
    piece = tables_of(file, samples).piece(0, BLOCK + 9, 3 * BLOCK, samples=samples, size=len(file))
    assert piece is not None
    random = np.random.default_rng(0)
    for at in (HEAD_BYTES + random.integers(0, piece.end - piece.start, 60)).tolist():
        data = bytearray(HEAD_BYTES) + file[piece.start : piece.end]
        data[at] ^= 1 << int(random.integers(8))
        with pytest.raises(audio.AudioError, match=r"^name: damaged FLAC"):
            decode_piece(data, piece, BLOCK + 9, 3 * BLOCK, "name")


def test_other_frames_than_those_asked_for_are_noticed():
    samples = 6 * BLOCK
    file = audio.encode(speech_like(samples), "flac")
    tables = tables_of(file, samples)
    piece = tables.piece(0, BLOCK, BLOCK, samples=samples, size=len(file))
    other = tables.piece(0, 2 * BLOCK, BLOCK, samples=samples, size=len(file))
    assert piece is not None
    assert other is not None
    with pytest.raises(audio.AudioError, match="frame 2 of 4096 samples where frame 1 of 4096 should begin"):
        decode_piece(bytearray(HEAD_BYTES) + file[other.start : other.end], piece, BLOCK, BLOCK, "x")


@pytest.fixture
def dataset(empty_corpus, tmp_path):
    """(folder, samples by utterance's key): FLAC of one to eight blocks; one of an unusual kind."""
    truth = {}
    for number in range(9):
        samples = fooling(3) if number == 7 else speech_like(700 + 3900 * number, number)
        path = empty_corpus.root / f"s/{number}.flac"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(audio.encode(samples, "flac"))
        truth[f"s/{number}"] = samples
    pack(str(empty_corpus.root), str(tmp_path / "out"), options=PackOptions(utterances_per_shard=5))
    return tmp_path / "out", truth


@pytest.mark.parametrize("verified", ["none", "crops"])
@pytest.mark.parametrize("place", ["folder", "memory"])
@pytest.mark.parametrize("flac_frames", [True, False])
def test_crops_of_flac_shards(dataset, verified, place, flac_frames):
    out, truth = dataset
    url = str(out)
    if place == "memory":
        url = "memory://flac-frames"
        for file in out.iterdir():
            storage.publish_bytes(storage.join(url, file.name), file.read_bytes())
    catalogue = open_catalogue(url, block_crcs=True, flac_frames=flac_frames)
    assert (catalogue.flac is not None) is flac_frames
    reader = Reader(catalogue, verify=verified)
    random = np.random.default_rng(0)
    for frames in (1, 400, 5000, 40_000):
        utterances = random.integers(0, 9, 12)
        starts = random.integers(0, np.maximum(catalogue.frames[utterances] - frames, 0) + 1)
        for u, start, found in zip(
            utterances.tolist(), starts.tolist(), reader.crops(utterances, starts, frames), strict=True
        ):
            piece = truth[catalogue.key(u)][start : start + frames]
            assert np.array_equal(found, np.pad(piece, (0, frames - len(piece)), mode="wrap"))


def test_a_crop_costs_its_own_frames(dataset):
    url = "memory://flac-frames"
    for file in dataset[0].iterdir():
        storage.publish_bytes(storage.join(url, file.name), file.read_bytes())
    catalogue = open_catalogue(url)
    u = catalogue.find("s/8")
    reader = Reader(catalogue)
    reader.crops(np.array([u]), np.array([2 * BLOCK + 50]), BLOCK)
    assert isinstance(reader.source, RangedSource)
    first = int(catalogue.flac.first[u])
    assert reader.source.fetched_bytes == catalogue.flac.offset[first + 4] - catalogue.flac.offset[first + 2]
    reader.crops(np.array([catalogue.find("s/7")]), np.array([50]), 100)
    assert reader.source.fetched_bytes > catalogue.size[catalogue.find("s/7")]


def test_tables_in_the_index(dataset):
    out, _ = dataset
    catalogue = open_catalogue(str(out))
    unusual = catalogue.find("s/7")
    assert np.array_equal(catalogue.flac.block == 0, np.arange(9) == unusual)
    assert len(catalogue.flac.offset) == table_lengths(catalogue.flac.block, catalogue.frames).sum()
    assert verify(str(out)).problems == []


def test_verify_proves_the_tables(dataset):
    out, _ = dataset
    index = index_file.from_bytes((out / "shard-000000.index.npz").read_bytes(), "x")
    row = int(np.argmax(index.frames * (index.flac_block > 0)))
    offsets = index.flac_offset.copy()
    tables = index.frame_tables()
    offsets[tables.first[row] + 1] += 3
    data = index_file.to_bytes(replace(index, flac_offset=offsets))
    (out / "shard-000000.index.npz").write_bytes(data)
    manifest = json.loads((out / "manifest.json").read_bytes())
    manifest["shardlist"][0]["index_sha256"] = hashlib.sha256(data).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest))
    (problem,) = verify(str(out)).problems
    assert problem == f"shard-000000.tar: {index.key(row)}.flac: its FLAC frames are not where the index says"
    catalogue = open_catalogue(str(out))
    u = catalogue.find(index.key(row))
    with pytest.raises(ReadError, match="no frame where frame 1 of 4096 should begin") as caught:
        Reader(catalogue).crops(np.array([0, u]), np.array([0, BLOCK]), 100)
    assert caught.value.row == 1
