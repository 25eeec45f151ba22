from __future__ import annotations

import dataclasses
import hashlib
import json
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools.dataset import index as index_file
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.catalogue import Catalogue, open_catalogue
from shard_tools.dataset.index import ShardIndex, pack_keys
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack


def make_index(keys: list[str]) -> ShardIndex:
    count = len(keys)
    key_bytes, key_ends = pack_keys(keys)
    numbers = np.arange(count, dtype=np.int64)
    flac = numbers % 2
    offset = 512 + numbers * 1024
    tables = [42 + np.arange(-(-(n + 25) // 16)) for n in numbers if n % 2]
    return ShardIndex(
        key_bytes,
        key_ends,
        label=numbers.astype(np.int32),
        turn=np.zeros(count, np.int32),
        total=np.ones(count, np.int32),
        next_shard=np.zeros(count, np.int32),
        frames=numbers + 25,
        codec=flac.astype(np.uint8),
        offset=offset,
        size=44 + 2 * (numbers + 25),
        pcm_offset=np.where(flac, -1, offset + 44),
        flac_block=(flac * 16).astype(np.int32),
        flac_offset=np.concatenate([np.empty(0), *tables]).astype(np.uint32),
        block_crc32=np.array([7, 2**32 - 1], np.uint32),
        block_size=8192,
        shard_size=10240,
        shard_sha256="ab" * 32,
        inputs="cd" * 32,
    )


@pytest.mark.slow
@given(st.lists(st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=9), max_size=9))
def test_index_round_trip_is_exact_and_deterministic(keys):
    index = make_index(keys)
    data = index_file.to_bytes(index)
    assert data == index_file.to_bytes(make_index(keys))
    again = index_file.from_bytes(data, "x")
    assert again.keys() == keys
    for field in dataclasses.fields(ShardIndex):
        assert np.array_equal(getattr(index, field.name), getattr(again, field.name)), field.name


def test_index_is_a_plain_npz(tmp_path):
    (tmp_path / "x.npz").write_bytes(index_file.to_bytes(make_index(["a", "b"])))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as archive:
        assert archive["frames"].tolist() == [25, 26]


@pytest.mark.parametrize("cut", [0, 10, 500, -1])
def test_damaged_index(cut):
    data = index_file.to_bytes(make_index(["a", "b"]))
    with pytest.raises(UserError, match=r"^x\.npz: not a shard index, or a damaged one"):
        index_file.from_bytes(data[:cut], "x.npz")


def test_index_of_another_version(monkeypatch):
    monkeypatch.setattr(index_file, "VERSION", 1)
    data = index_file.to_bytes(make_index(["a"]))
    monkeypatch.undo()
    with pytest.raises(UserError, match="index version 1; this program reads version 2; pack"):
        index_file.from_bytes(data, "x")


ENTRY = ShardEntry("s.tar", 3, 10240, "0" * 64, 48000, "s.index.npz", "1" * 64)
MANIFEST = Manifest(("a", "é"), (ENTRY,), 16000, "2" * 64, {"seed": 0})


def test_manifest_round_trip_and_wids_names():
    data = manifest_file.to_bytes(MANIFEST)
    assert manifest_file.from_bytes(data, "m") == MANIFEST
    document = json.loads(data)
    assert document["__kind__"] == "wids-shard-index-v1"
    assert document["shardlist"][0]["nsamples"] == 3
    assert (document["utterances"], document["frames"], document["bytes"]) == (3, 48000, 10240)
    assert MANIFEST.hours == 48000 / 16000 / 3600


def entry(**changes):
    return dataclasses.asdict(ENTRY) | changes


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"version": 3}, "manifest version 3; this program reads versions 1 and 2"),
        ({"format": "other"}, "not a voxshard manifest"),
        ({"utterances": 4}, "utterances says 4, its shards make 3"),
        ({"shardlist": [{"url": "s.tar"}]}, r"field shardlist\[0\]: .*nsamples"),
        ({"shardlist": []}, "its shardlist is empty"),
        ({"shardlist": [entry(url="../s.tar")]}, "'../s.tar' is no name of a file below"),
        ({"shardlist": [entry(url="/s.tar")]}, "'/s.tar' is no name of a file below"),
        ({"shardlist": [entry(url="s3://other/s.tar")]}, "is no name of a file below"),
        ({"shardlist": [entry(index=".")]}, "'.' is no name of a file below"),
        ({"shardlist": [entry(url=5)]}, r"field shardlist\[0\].url: expected `str`"),
        ({"shardlist": [entry(index=None)]}, r"field shardlist\[0\].index: expected `str`"),
        ({"shardlist": [entry(frames=0)]}, r"field shardlist\[0\].frames"),
        (
            {"shardlist": [entry(), entry(index="b")], "utterances": 6, "frames": 96000, "bytes": 20480},
            "twice",
        ),
        ({"speakers": None}, "field speakers: expected `array`"),
        ({"speakers": [1, "b", None]}, r"field speakers\[0\]: expected `str`"),
        ({"speakers": ["b", "a"]}, "not sorted, or not unique"),
        ({"speakers": ["", "a"]}, "a speaker without a name"),
        ({"options": []}, "field options: expected `object`"),
        ({"sample_rate": "16000"}, "field sample_rate: expected `int`"),
        ({"sample_rate": 0}, "sample_rate is 0; shards hold 16000 Hz"),
        ({"frames": 10**400}, "frames says 1000"),
    ],
)
def test_bad_manifest(change, text):
    document = json.loads(manifest_file.to_bytes(MANIFEST)) | change
    with pytest.raises(UserError, match=f"^here/manifest.json: .*{text}"):
        manifest_file.from_bytes(json.dumps(document).encode(), "here/manifest.json")


def test_manifest_cut_short():
    with pytest.raises(UserError, match="cut short"):
        manifest_file.from_bytes(manifest_file.to_bytes(MANIFEST)[:100], "m")


@pytest.fixture
def packed(corpus, tmp_path):
    pack(str(corpus.root), str(tmp_path / "out"), options=PackOptions(utterances_per_shard=8))
    return corpus, tmp_path / "out"


def test_columns(packed):
    corpus, out = packed
    catalogue = open_catalogue(str(out))
    assert catalogue.digest == hashlib.sha256((out / "manifest.json").read_bytes()).hexdigest()
    assert len(catalogue) == len(corpus.samples)
    assert catalogue.speakers == ("id0", "id1", "id2", "id3", "id4")
    assert sorted(map(catalogue.key, range(len(catalogue)))) == sorted(
        p.rpartition(".")[0] for p in corpus.samples
    )
    for u in range(len(catalogue)):
        key = catalogue.key(u)
        assert catalogue.find(key) == u
        assert catalogue.speakers[catalogue.label[u]] == key.split("/")[0]
        path = key + (".flac" if catalogue.codec[u] else ".wav")
        assert catalogue.frames[u] == len(corpus.samples[path])
        whole = (corpus.root / path).read_bytes()
        with open(catalogue.shard_urls[catalogue.shard[u]], "rb") as tar:
            tar.seek(catalogue.offset[u])
            assert tar.read(catalogue.size[u]) == whole
        assert catalogue.pcm_offset[u] == (-1 if catalogue.codec[u] else catalogue.offset[u] + 44)
    assert catalogue.find("id0/nothing") is None
    assert catalogue.find("") is None
    assert np.all(np.diff(catalogue.shard) >= 0)


def test_keys_whose_hashes_collide_are_told_apart():
    assert zlib.crc32(b"plumless") == zlib.crc32(b"buckeroo")
    keys = ["x", "buckeroo", "y", "plumless"]
    index = make_index(keys)
    columns = {
        name: getattr(index, name) for name in ("label", "frames", "codec", "offset", "size", "pcm_offset")
    }
    catalogue = Catalogue(
        "u",
        Manifest((), (), 16000, "", {}),
        "d",
        (),
        (),
        (),
        (),
        np.zeros(4, np.int32),
        key_bytes=index.key_bytes,
        key_ends=index.key_ends,
        **columns,
    )
    assert [catalogue.find(key) for key in keys] == [0, 1, 2, 3]


def test_an_index_of_another_packing_is_refused(packed):
    _, out = packed
    other = out / "shard-000001.index.npz"
    other.write_bytes((out / "shard-000000.index.npz").read_bytes())
    with pytest.raises(UserError, match=rf"^{other}: SHA-256 is"):
        open_catalogue(str(out))


def test_no_manifest(tmp_path):
    with pytest.raises(UserError, match=r"manifest\.json: does not exist; .*make-shards pack"):
        open_catalogue(str(tmp_path))
