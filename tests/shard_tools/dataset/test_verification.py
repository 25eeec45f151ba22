from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shard_tools.dataset import index as index_file
from shard_tools.dataset import manifest as manifest_file
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.shardwise import open_shardwise
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read.reader import Reader


@pytest.fixture
def out(corpus, tmp_path) -> Path:
    pack(str(corpus.root), str(tmp_path / "out"), options=PackOptions(utterances_per_shard=8))
    return tmp_path / "out"


def change_index(out: Path, number: int, **columns: object) -> None:
    """Change an index and make the manifest agree with it, as a defect of ours would."""
    path = out / f"shard-{number:06d}.index.npz"
    data = index_file.to_bytes(replace(index_file.from_bytes(path.read_bytes(), "x"), **columns))
    path.write_bytes(data)
    manifest = json.loads((out / "manifest.json").read_bytes())
    manifest["shardlist"][number]["index_sha256"] = hashlib.sha256(data).hexdigest()
    (out / "manifest.json").write_text(json.dumps(manifest))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_is_wrong(out, workers):
    assert verify(str(out), workers=workers).problems == []


def test_every_damage_is_listed_in_one_go(out):
    catalogue = open_catalogue(str(out))
    flipped = int(np.flatnonzero((catalogue.shard == 0) & (catalogue.codec == 0))[0])
    flip(out / "shard-000000.tar", int(catalogue.pcm_offset[flipped]) + 11)
    flac = int(np.flatnonzero((catalogue.shard == 1) & (catalogue.codec == 1))[0])
    flip(out / "shard-000001.tar", int(catalogue.offset[flac] + catalogue.size[flac] // 2))
    flip(out / "shard-000002.index.npz", 3000)
    (out / "shard-000003.tar").unlink()
    problems = verify(str(out)).problems
    text = "\n".join(problems)
    # one flipped bit of PCM: the audio decodes, the checksums tell
    assert "shard-000000.tar: SHA-256" in text
    start = catalogue.pcm_offset[flipped] // 8192 * 8192
    assert f"shard-000000.tar: bytes {start} to {start + 8192} do not have their CRC-32" in text
    assert catalogue.key(flipped) in text
    assert f"shard-000001.tar: {catalogue.key(flac)}.flac: truncated or damaged FLAC" in text
    assert "shard-000002.index.npz: SHA-256" in text
    assert "shard-000003.tar: does not exist" in text


def test_a_tar_cut_between_members_is_noticed(out):
    catalogue = open_catalogue(str(out))
    last = int(np.flatnonzero(catalogue.shard == 0)[-1])
    with open(out / "shard-000000.tar", "r+b") as file:
        file.truncate(int(catalogue.offset[last]) - 512)
    problems = verify(str(out)).problems
    assert f"shard-000000.tar: {catalogue.key(last)}" in "\n".join(problems)
    held = int((catalogue.shard == 0).sum())
    assert f"shard-000000.tar: {held - 1} utterances found, the manifest says {held}" in problems


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "change", "text"),
    [
        ("size", 2, "in the index"),
        ("frames", -2, "frames, the index says"),
        ("label", 1, "speaker is 'id"),
    ],
)
def test_an_index_that_disagrees_with_its_shard(out, column, change, text):
    index = index_file.from_bytes((out / "shard-000001.index.npz").read_bytes(), "x")
    values = getattr(index, column).copy()
    values[2] = (values[2] + 1) % 5 if column == "label" else values[2] + change
    change_index(out, 1, **{column: values})
    if column == "frames":  # the totals of the manifest are a check of their own
        manifest = json.loads((out / "manifest.json").read_bytes())
        manifest["shardlist"][1]["frames"] += change
        manifest["frames"] += change
        (out / "manifest.json").write_text(json.dumps(manifest))
    problems = verify(str(out)).problems
    assert problems
    assert all(problem.startswith("shard-000001.tar: " + index.key(2)) for problem in problems)
    assert text in "\n".join(problems)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("column", "change", "text"),
    [
        ("offset", lambda v: v + 2, "offset is"),
        ("offset", lambda v: -v, "offset is"),
        ("pcm_offset", lambda v: v + 2, "frames is"),
        ("pcm_offset", lambda v: v - 2, "pcm_offset is"),
        ("pcm_offset", lambda v: v * 0 - 1, "pcm_offset is"),
        ("frames", lambda v: v + 2, "frames is"),
        ("frames", lambda v: v * 0, "frames is"),
        ("frames", lambda v: v * 0 + 2**62, "frames is"),
        ("size", lambda v: v * 0 + 2**62, "size is"),
        ("size", lambda v: v * 0 + 2**20, ""),
        ("codec", lambda v: v * 0 + 1, "pcm_offset is"),
        ("codec", lambda v: v * 0 + 7, "codec is 7"),
        ("label", lambda v: v * 0 - 1, "label is -1"),
        ("turn", lambda v: v * 0 + 10**6, "turn is 1000000"),
        ("key_ends", lambda v: v * 0, "keys"),
    ],
)
def test_an_index_that_cannot_be_is_refused_where_it_is_read(out, column, change, text):
    path = out / "shard-000001.index.npz"
    values = getattr(index_file.from_bytes(path.read_bytes(), "x"), column).copy()
    values[2] = change(values[2])
    change_index(out, 1, **{column: values})
    for read in (open_catalogue, lambda url: open_shardwise(url, held=9).label[np.arange(20)]):
        with pytest.raises(UserError, match=f"shard-000001.index.npz: a damaged shard index .*{text}"):
            read(str(out))
    (problem,) = [p for p in verify(str(out)).problems if "damaged shard index" in p]
    assert text in problem


@pytest.mark.slow
def test_an_index_with_more_in_it_than_its_file_is_refused(out):
    """As a compressed member, or by a shape that no file holds: neither may take memory."""
    path = out / "shard-000001.index.npz"
    with np.load(path) as archive:
        columns = dict(archive)
    file = io.BytesIO()
    np.savez_compressed(file, **(columns | {"frames": np.zeros(10**7, np.int64)}))
    with pytest.raises(UserError, match="is compressed"):
        index_file.from_bytes(file.getvalue(), "x")
    data = path.read_bytes().replace(b"'shape': (%d,)" % len(columns["label"]), b"'shape': (%d,)" % 10, 1)
    with pytest.raises(UserError, match=r"^x: "):
        index_file.from_bytes(data, "x")


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_shifted_number_is_refused_or_seen_or_does_no_harm(out, data):
    """Whatever number of an index is another one: no other samples are read with `verify` crops."""
    pristine = {path.name: path.read_bytes() for path in out.iterdir() if path.suffix != ".tar"}
    good = open_catalogue(str(out), block_crcs=True)
    wanted = {good.key(u): Reader(good, verify="crops").utterance(u) for u in range(len(good))}
    index = index_file.from_bytes(pristine["shard-000001.index.npz"], "x")
    names = ["frames", "offset", "size", "pcm_offset", "codec", "key_ends", "flac_block"]
    column = data.draw(st.sampled_from(names))
    values = getattr(index, column).copy()
    row = data.draw(st.integers(0, len(index) - 1))
    old = int(values[row])
    shifts = st.sampled_from([old + 1, old + 2, old - 2, old + 44, old + 512, old // 2, old * 2, 0, 1, -old])
    values[row] = data.draw(shifts) % (int(np.iinfo(values.dtype).max) + 1)
    try:
        change_index(out, 1, **{column: values})
        problems = verify(str(out)).problems
        assert problems or int(values[row]) == old
        try:
            changed = open_catalogue(str(out), block_crcs=True)
            reader = Reader(changed, verify="crops")
            for u in range(len(changed)):
                found, key = reader.utterance(u), changed.key(u)
                np.testing.assert_array_equal(found, wanted.get(key, found)[: len(found)])
        except UserError:
            pass
    finally:
        for name, content in pristine.items():
            (out / name).write_bytes(content)


def test_a_key_in_two_shards(out):
    manifest = manifest_file.from_bytes((out / "manifest.json").read_bytes(), "m")
    (out / "copy.tar").write_bytes((out / "shard-000000.tar").read_bytes())
    shards = (*manifest.shards, replace(manifest.shards[0], url="copy.tar"))
    (out / "manifest.json").write_bytes(manifest_file.to_bytes(replace(manifest, shards=shards)))
    problems = verify(str(out)).problems
    assert len(problems) == manifest.shards[0].nsamples
    assert "is also in" in problems[0]


@pytest.mark.parametrize("column", ["turn", "total", "next_shard"])
def test_an_index_that_is_wrong_about_the_other_shards(out, column):
    index = index_file.from_bytes((out / "shard-000001.index.npz").read_bytes(), "x")
    values = getattr(index, column).copy()
    values[2] += -1 if column == "next_shard" else 1
    change_index(out, 1, **{column: values})
    (problem,) = verify(str(out)).problems
    assert problem.startswith("shard-000001.tar: its index is wrong about the place of 1 utterances")
    assert index.key(2) in problem
