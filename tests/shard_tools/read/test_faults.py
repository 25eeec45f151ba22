"""Reading through an S3 endpoint that fails, stalls and lies."""

from __future__ import annotations

import numpy as np
import pytest
from fault_proxy import KINDS, FaultProxy

from shard_tools import storage
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read.ranged import RangedSource
from shard_tools.read.reader import Reader, ReadError
from shard_tools.storage import StorageError, StoragePolicy

pytestmark = pytest.mark.s3

HASTY = StoragePolicy(attempts=10, first_wait_s=0.01, connect_timeout_s=5, read_timeout_s=0.7, connections=8)


@pytest.fixture
def hasty(storage_policy) -> None:
    storage_policy(HASTY)


@pytest.fixture
def shards(empty_corpus, s3_folder, faulty_s3, hasty, tmp_path):
    """(the dataset in a folder, the same in a bucket): WAV and FLAC, the WAVs longer than a block."""
    for number in range(24):
        kind = "flac" if number % 2 else "wav"
        empty_corpus.add(f"id{number % 3}/{number:02d}.{kind}", 9000 + 1900 * number)
    out = tmp_path / "out"
    pack(str(empty_corpus.root), str(out), options=PackOptions(utterances_per_shard=6))
    for file in out.iterdir():
        storage.publish_bytes(storage.join(s3_folder, file.name), file.read_bytes())
    return str(out), s3_folder


@pytest.mark.slow
def test_a_fifth_of_all_answers_faulty_and_every_byte_right(shards, faulty_s3):
    local, remote = shards
    faulty_s3.set_faults(0.2, seed=5)
    catalogue = open_catalogue(remote, block_crcs=True)
    reader = Reader(catalogue, verify="crops")
    truth = Reader(open_catalogue(local))
    random = np.random.default_rng(1)
    for _ in range(40):
        if set(faulty_s3.faults) == set(KINDS) and faulty_s3.requests >= 200:
            break
        utterances = random.integers(0, len(catalogue), 16)
        starts = random.integers(0, catalogue.frames[utterances] - 3000)
        expected = truth.crops(utterances, starts, 3000)
        assert np.array_equal(reader.crops(utterances, starts, 3000), expected)
    assert isinstance(reader.source, RangedSource)
    assert set(faulty_s3.faults) == set(KINDS)
    assert sum(faulty_s3.faults.values()) > 0.1 * faulty_s3.requests


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wrong_bytes"])
def test_a_store_that_only_fails_is_given_up(shards, faulty_s3, storage_policy, kind):
    storage_policy(StoragePolicy(attempts=2, first_wait_s=0.01, read_timeout_s=0.5))
    catalogue = open_catalogue(shards[1])
    faulty_s3.set_faults(1, [kind])
    u = int(np.flatnonzero(catalogue.codec == 0)[-1])
    with pytest.raises(ReadError) as caught:
        Reader(catalogue).crops(np.array([u]), np.array([50]), 3000)
    assert set(faulty_s3.faults) == {kind}
    assert 2 <= faulty_s3.faults[kind] <= 4  # aiohttp itself asks again where a kept connection was reset
    assert (caught.value.row, caught.value.key) == (0, catalogue.key(u))
    assert caught.value.offset == catalogue.pcm_offset[u] + 100
    assert str(caught.value).count(catalogue.shard_urls[catalogue.shard[u]]) == 1


@pytest.mark.slow
def test_a_lie_is_told_by_the_checksums_alone(shards, faulty_s3):
    local, remote = shards
    catalogue = open_catalogue(remote, block_crcs=True)
    u = int(np.flatnonzero(catalogue.codec == 0)[-1])
    expected = Reader(open_catalogue(local)).utterance(u)
    faulty_s3.set_faults(1, ["wrong_bytes"])
    assert not np.array_equal(Reader(catalogue).utterance(u), expected)
    faulty_s3.set_faults(1, ["wrong_bytes"])
    u = int(np.flatnonzero(catalogue.codec == 0)[0])
    assert np.array_equal(
        Reader(catalogue, verify="crops").utterance(u), Reader(open_catalogue(local)).utterance(u)
    )
    assert faulty_s3.faults == {"wrong_bytes": 2}


@pytest.mark.slow
def test_a_shard_that_was_packed_anew_is_noticed(shards):
    catalogue = open_catalogue(shards[1])
    url = catalogue.shard_urls[0]
    storage.publish_bytes(url, storage.read_bytes(url) + bytes(512))
    with pytest.raises(ReadError, match=r"has \d+ bytes, the manifest says \d+: it was packed anew"):
        Reader(catalogue).utterance(0)


@pytest.mark.slow
@pytest.mark.parametrize("end", [100, 3000])
def test_a_shard_that_was_cut_short_is_noticed_at_once(shards, faulty_s3, end):
    catalogue = open_catalogue(shards[1])
    u = int(np.flatnonzero((catalogue.codec == 0) & (catalogue.shard == 0))[-1])
    url = catalogue.shard_urls[0]
    storage.publish_bytes(url, storage.read_bytes(url)[: int(catalogue.pcm_offset[u]) + end])
    before = faulty_s3.requests
    with pytest.raises(ReadError, match=r"ends at byte \d+, the manifest says \d+"):
        Reader(catalogue).crops(np.array([u]), np.array([1000]), 3000)
    assert faulty_s3.requests == before + 1


@pytest.mark.slow
def test_what_is_missing_or_refused_is_not_asked_for_again(shards, faulty_s3):
    catalogue = open_catalogue(shards[1])
    storage.remove(catalogue.shard_urls[0])
    before = faulty_s3.requests
    with pytest.raises(ReadError, match="does not exist"):
        Reader(catalogue).utterance(0)
    assert faulty_s3.requests == before + 1


@pytest.mark.slow
def test_a_policy_set_later_holds(shards, faulty_s3, storage_policy):
    url = storage.join(shards[1], "manifest.json")
    faulty_s3.set_faults(1, ["stalled"])
    storage_policy(StoragePolicy(attempts=1, read_timeout_s=0.3))
    with pytest.raises(StorageError, match="gave up after 1 tries"):
        storage.read_bytes(url)
    faulty_s3.set_faults(0)
    storage_policy(StoragePolicy(read_timeout_s=7))
    assert storage.read_bytes(url)


@pytest.mark.slow
def test_a_proxy_without_faults_changes_nothing(shards, faulty_s3: FaultProxy):
    local, remote = shards
    catalogue = open_catalogue(remote)
    every = np.arange(len(catalogue))
    starts = np.zeros(len(every), np.int64)
    assert np.array_equal(
        Reader(catalogue).crops(every, starts, 60_000),
        Reader(open_catalogue(local)).crops(every, starts, 60_000),
    )
    assert not faulty_s3.faults
