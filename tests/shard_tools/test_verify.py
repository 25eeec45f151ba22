from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shard_tools import index as index_file
from shard_tools import manifest as manifest_file
from shard_tools.catalogue import open_catalogue
from shard_tools.pack import PackOptions, pack
from shard_tools.verify import verify


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


@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("offset", "in the index"),
        ("size", "in the index"),
        ("frames", "frames, the index says"),
        ("pcm_offset", "PCM begins at byte"),
        ("label", "speaker is 'id"),
    ],
)
def test_an_index_that_disagrees_with_its_shard(out, column, text):
    index = index_file.from_bytes((out / "shard-000001.index.npz").read_bytes(), "x")
    values = getattr(index, column).copy()
    values[2] = (values[2] + 1) % 5 if column == "label" else values[2] + 2
    change_index(out, 1, **{column: values})
    if column == "frames":  # the totals of the manifest are a check of their own
        manifest = json.loads((out / "manifest.json").read_bytes())
        manifest["shardlist"][1]["frames"] += 2
        manifest["frames"] += 2
        (out / "manifest.json").write_text(json.dumps(manifest))
    problems = verify(str(out)).problems
    assert problems
    assert all(problem.startswith("shard-000001.tar: " + index.key(2)) for problem in problems)
    assert text in "\n".join(problems)


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
    values[2] += 1
    change_index(out, 1, **{column: values})
    (problem,) = verify(str(out)).problems
    assert problem.startswith("shard-000001.tar: its index is wrong about the place of 1 utterances")
    assert index.key(2) in problem
