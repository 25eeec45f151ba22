"""A manifest's table says what the manifest says, and is left aside when it is another's or damaged."""

from __future__ import annotations

import fcntl
import hashlib
import pickle
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_tools import storage
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset import manifest_table, shardwise
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.dataset.manifest_table import ManifestTable, is_table, name_of, open_table
from shard_tools.dataset.shardwise import open_shardwise
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.pack.merging import merge
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.pack.repair import repair
from shard_tools.storage import Folder, etags

DIGEST = "ab" * 32
names = st.text(string.ascii_letters + "éß語 .-", min_size=1, max_size=9)


@st.composite
def manifests(draw):
    shards = tuple(
        ShardEntry(
            f"{number}/{draw(names)}x.tar",
            *(draw(st.integers(1, 2**40)) for _ in range(2)),
            hashlib.sha256(str(number).encode()).hexdigest(),
            draw(st.integers(1, 2**40)),
            f"{draw(names)}x.npz",
            hashlib.sha256(str(-number).encode()).hexdigest(),
        )
        for number in range(draw(st.integers(1, 9)))
    )
    return Manifest(tuple(sorted(draw(st.sets(names, min_size=1)))), shards, 16000, "", {})


@given(manifests())
def test_it_says_what_the_manifest_says(manifest):
    data = manifest_table.to_bytes(manifest, DIGEST)
    assert data == manifest_table.to_bytes(manifest, DIGEST)
    for table in (ManifestTable(data), pickle.loads(pickle.dumps(ManifestTable(data)))):
        assert table.digest == DIGEST
        assert table.speakers == manifest.speakers
        assert list(table.speakers) == list(manifest.speakers)
        assert table.shards == manifest.shards
        assert table.shard_names == [shard.url for shard in manifest.shards]
        assert np.array(table.sizes).tolist() == list(table.sizes) == [s.filesize for s in manifest.shards]
        assert table.sha256[-1] == manifest.shards[-1].sha256
        assert table.counts.tolist() == [shard.nsamples for shard in manifest.shards]
        assert table.hours == pytest.approx(manifest.hours)


@pytest.fixture
def packed(corpus, tmp_path):
    pack(str(corpus.root), str(tmp_path / "out"), options=PackOptions(utterances_per_shard=4, group=2))
    return tmp_path / "out"


def table_in(folder: Path) -> Path:
    (path,) = [path for path in folder.iterdir() if is_table(path.name)]
    return path


def test_a_large_manifest_is_not_parsed(packed, monkeypatch):
    whole = open_catalogue(str(packed))
    parsed = open_shardwise(str(packed), held=2)
    monkeypatch.setattr(shardwise, "_PARSED", 100)
    monkeypatch.setattr(manifest_file, "from_bytes", None)
    mapped = open_shardwise(str(packed), held=2)
    for found in (parsed, mapped, pickle.loads(pickle.dumps(mapped))):
        assert found.digest == whole.digest
        assert (found.speakers, found.shard_urls) == (whole.speakers, whole.shard_urls)
        assert (found.shard_sizes, found.shard_sha256) == (whole.shard_sizes, whole.shard_sha256)
        assert found.frames[np.arange(len(whole))].tolist() == whole.frames.tolist()


def test_a_remote_one_is_brought_to_the_node_once(packed, tmp_path, monkeypatch):
    url = "memory://test-manifest-table"
    for path in packed.iterdir():
        storage.publish_bytes(f"{url}/{path.name}", path.read_bytes())
    asked = []
    read = storage.read_bytes

    def noted(url, start=None, end=None):
        asked.append(Path(url).name)
        return read(url, start, end)

    monkeypatch.setattr(storage, "read_bytes", noted)
    monkeypatch.setattr(shardwise, "_PARSED", 100)
    near = tmp_path / "near"
    for _ in range(2):
        found = open_shardwise(url, held=2, near=lambda: str(near))
        assert found.speakers == open_catalogue(str(packed)).speakers
    name = table_in(packed).name
    assert asked.count(name) == 1
    assert (near / name).read_bytes() == table_in(packed).read_bytes()
    (near / name).unlink()  # not written over: what is mapped would change
    (near / name).write_bytes(b"damaged")
    assert open_shardwise(url, held=2, near=lambda: str(near)).speakers == found.speakers
    assert asked.count(name) == 2
    (tmp_path / "file").touch()
    unusable = open_shardwise(url, held=2, near=lambda: str(tmp_path / "file" / "below"))
    assert unusable.speakers == found.speakers
    assert asked.count(name) == 3


def test_a_process_that_was_stopped_while_it_brings_one_keeps_nobody(packed, tmp_path, monkeypatch):
    url = "memory://test-manifest-table-stopped"
    table = table_in(packed)
    storage.publish_bytes(f"{url}/{table.name}", table.read_bytes())
    digest = hashlib.sha256((packed / "manifest.json").read_bytes()).hexdigest()
    monkeypatch.setattr(manifest_table, "_PATIENCE_S", 0.1)
    draft = tmp_path / f".{table.name}-killed"
    draft.touch()
    with (tmp_path / f"{table.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = manifest_table.open_table(url, digest, lambda: str(tmp_path))
        assert found is not None
        assert not (tmp_path / table.name).exists()
    manifest_table.open_table(url, digest, lambda: str(tmp_path))
    assert (tmp_path / table.name).exists()
    assert not draft.exists()


def test_that_of_another_manifest_or_a_damaged_one_is_left_aside(packed, monkeypatch):
    manifest = packed / "manifest.json"
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()
    assert open_table(str(packed), digest) is not None
    assert open_table(str(packed), DIGEST) is None
    table = table_in(packed)
    table.rename(packed / name_of(DIGEST))
    assert open_table(str(packed), DIGEST) is None
    (packed / name_of(DIGEST)).rename(table)
    data = table.read_bytes()
    place = data.index(manifest_file.in_folder(Folder(str(packed))).speakers[0].encode())
    entry = data.index(b"PK\x01\x02")  # of zip's directory
    later = data[: entry + 6] + b"\xff" + data[entry + 7 :]  # than zipfile knows
    beyond = data[: entry + 42] + b"\xff\xff" + data[entry + 44 :]  # the file's end, its member begins
    for harmed in (data[:-1], b"", data[:place] + b"\0" + data[place + 1 :], later, beyond):
        table.write_bytes(harmed)
        assert open_table(str(packed), digest) is None
        with pytest.raises(UserError):
            ManifestTable(harmed)
        monkeypatch.setattr(shardwise, "_PARSED", 100)
        assert open_shardwise(str(packed), held=1).digest == digest


def test_names_that_lead_astray_are_refused():
    entry = ShardEntry("../../etc/x.tar", 1, 1, "0" * 64, 1, "a.npz", "0" * 64)
    table = ManifestTable.of(Manifest(("a",), (entry,), 16000, "", {}), DIGEST)
    with pytest.raises(UserError, match="no name of a file below the manifest's folder"):
        table.shards[0]
    opened = shardwise.ShardwiseCatalogue("s3://b/x", table, held=1, block_crcs=False)
    with pytest.raises(UserError, match="no name of a file below the manifest's folder"):
        opened.shard_urls[0]


def test_verify_says_what_is_wrong_and_repair_and_merge_mend_it(packed, corpus):
    whole = table_in(packed).read_bytes()
    assert verify(str(packed)).problems == []
    table_in(packed).write_bytes(whole[:-30])
    (problem,) = verify(str(packed)).problems
    assert problem.startswith(
        f"{table_in(packed).name}: does not say what the manifest says; make-shards merge"
    )
    merge(str(packed))
    assert table_in(packed).read_bytes() == whole
    table_in(packed).write_bytes(b"")
    repaired = repair(str(packed), str(corpus.root))
    assert len(repaired.before.problems) == 1
    assert repaired.after.problems == []
    assert table_in(packed).read_bytes() == whole


def test_an_older_set_has_none_until_merge_writes_it(packed):
    whole, name = table_in(packed).read_bytes(), table_in(packed).name
    (packed / name).unlink()
    assert verify(str(packed)).problems == []
    assert not (packed / name).exists()
    merge(str(packed))
    assert (packed / name).read_bytes() == whole


def test_packing_anew_leaves_none_of_what_was_there(packed, corpus):
    old = table_in(packed).name
    corpus.add("another/1.wav")
    pack(str(corpus.root), str(packed), options=PackOptions(utterances_per_shard=4), overwrite=True)
    assert table_in(packed).name != old


@pytest.mark.parametrize("open_it", [open_catalogue, lambda url: open_shardwise(url, held=1)])
def test_a_set_that_was_packed_anew_is_read_by_who_read_the_older_one(packed, corpus, open_it):
    """As in a notebook, whose process knows the older one's tags."""
    shard = open_it(str(packed)).shard_urls[0]
    etags.require(shard, "old")
    pack(str(corpus.root), str(packed), options=PackOptions(utterances_per_shard=3, group=2), overwrite=True)
    open_it(str(packed))
    etags.require(shard, "new")
