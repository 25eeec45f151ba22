from __future__ import annotations

import contextlib
import os
import pickle
import resource

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read import source
from shard_tools.read.reader import TOGETHER, Reader, ReadError


@pytest.fixture
def dataset(corpus, tmp_path):
    pack(str(corpus.root), str(tmp_path / "out"), options=PackOptions(utterances_per_shard=8))
    catalogue = open_catalogue(str(tmp_path / "out"))
    truth = {catalogue.find(path.rpartition(".")[0]): samples for path, samples in corpus.samples.items()}
    return catalogue, [truth[u] for u in range(len(catalogue))]


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_crops_are_slices_of_the_audio(dataset, data):
    catalogue, truth = dataset
    frames = data.draw(st.integers(1, 5000))
    utterances = data.draw(st.lists(st.integers(0, len(catalogue) - 1), max_size=12))
    starts = [data.draw(st.integers(0, max(len(truth[u]) - frames, 0))) for u in utterances]
    wanted = np.array(utterances, np.int64), np.array(starts, np.int64), frames
    crops = Reader(catalogue).crops(*wanted)
    assert crops.dtype == np.int16
    assert crops.shape == (len(utterances), frames)
    for crop, u, start in zip(crops, utterances, starts, strict=True):
        piece = truth[u][start : start + frames]
        assert np.array_equal(crop, np.pad(piece, (0, frames - len(piece)), mode="wrap"))
    rows = [row.copy() for row in Reader(catalogue).rows(*wanted)]
    assert len(rows) == len(crops)
    assert all(np.array_equal(row, crop) for row, crop in zip(rows, crops, strict=True))


@pytest.mark.parametrize("codec", [0, 1])
def test_rows_are_read_as_they_are_asked_for(dataset, codec, monkeypatch):
    catalogue, truth = dataset
    reads = []
    original = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *given: reads.append(given) or original(*given))
    of_codec = np.flatnonzero(catalogue.codec == codec)
    utterances = np.resize(of_codec, 3 * TOGETHER)
    frames = min(len(truth[u]) for u in of_codec)
    rows = Reader(catalogue).rows(utterances, np.zeros_like(utterances), frames)
    assert not reads
    for number, (row, u) in enumerate(zip(rows, utterances, strict=True)):
        assert len(reads) == TOGETHER * (number // TOGETHER + 1)
        assert np.array_equal(row, truth[u][:frames])


@pytest.mark.parametrize("codec", [0, 1])
def test_an_unreadable_row_is_known_by_its_number(dataset, codec):
    catalogue, _ = dataset
    shards = catalogue.shard[catalogue.codec == codec]
    lost = int(shards[-1])
    kept = np.flatnonzero((catalogue.codec == codec) & (catalogue.shard != lost))
    gone = np.flatnonzero((catalogue.codec == codec) & (catalogue.shard == lost))[:1]
    os.unlink(catalogue.shard_urls[lost])
    utterances = np.concatenate([np.resize(kept, 2 * TOGETHER + 1), gone, kept[:1]])
    reader = Reader(catalogue)
    for read in (reader.crops, lambda *wanted: list(reader.rows(*wanted))):
        with pytest.raises(ReadError) as caught:
            read(utterances, np.zeros_like(utterances), 10)
        assert caught.value.row == 2 * TOGETHER + 1


def test_pcm_reads_the_bytes_of_the_crop_alone(dataset, monkeypatch):
    catalogue, _ = dataset
    reads = []
    original = os.preadv
    monkeypatch.setattr(
        os,
        "preadv",
        lambda f, buffers, offset: reads.append((len(buffers[0]), offset)) or original(f, buffers, offset),
    )
    u = int(np.flatnonzero((catalogue.codec == 0) & (catalogue.frames > 500))[0])
    Reader(catalogue).crops(np.array([u, u]), np.array([7, 100]), 300)
    assert reads == [(600, catalogue.pcm_offset[u] + 14), (600, catalogue.pcm_offset[u] + 200)]


@pytest.mark.slow
def test_a_reader_survives_pickling_and_a_fork(dataset):
    catalogue, truth = dataset
    reader = Reader(catalogue)
    assert np.array_equal(reader.utterance(3), truth[3])
    again = pickle.loads(pickle.dumps(reader))
    assert np.array_equal(again.utterance(3), truth[3])
    assert again.catalogue.find(catalogue.key(5)) == 5
    child = os.fork()
    if child == 0:
        os._exit(0 if all(np.array_equal(reader.utterance(u), truth[u]) for u in range(8)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(reader.utterance(4), truth[4])


def test_few_files_stay_open(dataset, monkeypatch):
    catalogue, truth = dataset
    monkeypatch.setattr(source, "OPEN_FILES", 2)
    reader = Reader(catalogue)
    before = len(os.listdir("/proc/self/fd"))
    for u in range(len(catalogue)):
        assert np.array_equal(reader.utterance(u), truth[u])
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    del reader
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def few_files():
    """Sets how many files this process may have open beyond those it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    yield lambda more: resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + more, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_of_open_files_is_heeded_and_shared(dataset, few_files):
    catalogue, truth = dataset
    readers = [Reader(catalogue) for _ in range(3)]
    few_files(4)
    for u in range(len(catalogue)):
        for reader in readers:
            assert np.array_equal(reader.utterance(u), truth[u])


def test_where_no_file_can_be_opened_the_remedy_is_named(dataset, few_files):
    catalogue, _ = dataset
    reader = Reader(catalogue)
    few_files(0)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            while True:
                stack.enter_context(open("/dev/null"))
        with pytest.raises(
            ReadError, match=r"Too many open files: this process may have \d+; raise the limit"
        ):
            reader.utterance(0)


@pytest.mark.parametrize("codec", [0, 1])
@pytest.mark.parametrize(("damage", "text"), [("cut", "ends .* too early"), ("gone", "No such file")])
def test_a_cut_or_vanished_shard_names_shard_key_and_offset(dataset, codec, damage, text):
    catalogue, _ = dataset
    u = int(np.flatnonzero(catalogue.codec == codec)[-1])
    path = catalogue.shard_urls[catalogue.shard[u]]
    if damage == "cut":
        os.truncate(path, int(catalogue.offset[u]) + 100)
    else:
        os.unlink(path)
    offset = catalogue.pcm_offset[u]
    if codec:
        offset = catalogue.offset[u] + catalogue.flac.offset[catalogue.flac.first[u]]
    with pytest.raises(ReadError, match=text) as caught:
        Reader(catalogue).utterance(u)
    assert str(caught.value).startswith(f"{path}: utterance {catalogue.key(u)} at byte {offset}: ")


def test_damaged_flac_is_named(dataset):
    catalogue, _ = dataset
    u = int(np.flatnonzero(catalogue.codec == 1)[0])
    path = catalogue.shard_urls[catalogue.shard[u]]
    with open(path, "r+b") as file:
        file.seek(int(catalogue.offset[u] + catalogue.size[u] // 2))
        file.write(bytes(60))
    with pytest.raises(ReadError, match=f"utterance {catalogue.key(u)} at byte .*damaged FLAC"):
        Reader(catalogue).utterance(u)


@pytest.mark.parametrize(("start", "frames"), [(-1, 10), (995, 10), (1, 5000), (0, 0)])
def test_a_crop_outside_its_utterance_is_a_defect(dataset, start, frames):
    catalogue, truth = dataset
    u = next(u for u, samples in enumerate(truth) if len(samples) == 1000)
    with pytest.raises(ValueError, match="within"):
        Reader(catalogue).crops(np.array([u]), np.array([start]), frames)
