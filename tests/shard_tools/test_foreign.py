from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds

from shard_tools import audio
from shard_tools.catalogue import open_catalogue
from shard_tools.errors import UserError
from shard_tools.foreign import index_tars
from shard_tools.listing import ProblemsError
from shard_tools.reader import Reader
from shard_tools.verify import verify


def noise(seed: int, frames: int = 900) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, frames).astype(np.int16)


def write_tar(path: Path, files: dict[str, bytes], **options: object) -> None:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def test_tars_of_webdatasets_own_writer(tmp_path):
    with wds.ShardWriter(str(tmp_path / "train-%04d.tar"), maxcount=3, verbose=0) as writer:
        for number in range(8):
            sample = {
                "__key__": f"spk{number % 3}/u{number}",
                "flac": audio.encode(noise(number), "flac"),
                "txt": "hello",
            }
            writer.write(sample)
    summary = index_tars(str(tmp_path))
    assert summary.manifest.utterances == 8
    assert summary.manifest.speakers == ("spk0", "spk1", "spk2")
    catalogue = open_catalogue(str(tmp_path))
    for number in range(8):
        u = catalogue.find(f"spk{number % 3}/u{number}")
        assert np.array_equal(Reader(catalogue).utterance(u), noise(number))
        assert catalogue.speakers[catalogue.label[u]] == f"spk{number % 3}"
    assert verify(str(tmp_path)).problems == []


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_speaker_from_json_and_names_with_dots(tmp_path, format_):
    files = {
        "./a.json": json.dumps({"speaker": 17, "label": 999, "frames": -1}).encode(),
        "./a.wav": audio.encode(noise(1), "wav"),
        "./" + "long/" * 19 + "b.wav": audio.encode(noise(2), "wav"),
    }
    write_tar(tmp_path / "x.tar", files, format=format_)
    index_tars(str(tmp_path))
    catalogue = open_catalogue(str(tmp_path))
    assert catalogue.speakers == ("17", "long")
    assert np.array_equal(Reader(catalogue).utterance(catalogue.find("a")), noise(1))
    assert verify(str(tmp_path)).problems == []


def test_all_that_cannot_be_indexed_is_named_and_nothing_written(tmp_path):
    wav = audio.encode(noise(1), "wav")
    stereo = wav[:22] + b"\2" + wav[23:32] + b"\4" + wav[33:]
    files = {
        "s/good.wav": wav,
        "s/mp3.mp3": b"x",
        "s/both.wav": wav,
        "s/both.flac": audio.encode(noise(1), "flac"),
        "s/cut.wav": wav[:-9],
        "s/stereo.wav": stereo,
        "nospeaker.wav": wav,
        "s/json.wav": wav,
        "s/json.json": b"{",
    }
    write_tar(tmp_path / "a.tar", files)
    write_tar(tmp_path / "b.tar", {"s/good.wav": wav})
    write_tar(tmp_path / "c.tar.gz", {"s/x.wav": wav})
    (tmp_path / "d.tar").write_bytes(b"no tar" * 1000)
    write_tar(tmp_path / "e.tar", {"s/long.wav": wav * 20})
    with open(tmp_path / "e.tar", "r+b") as file:
        file.truncate(10000)
    write_tar(tmp_path / "f.tar", {})
    with pytest.raises(ProblemsError) as caught:
        index_tars(str(tmp_path))
    found = {
        problem.partition(": ")[0] + " " + problem.partition(": ")[2].partition(":")[0]
        for problem in caught.value.problems
    }
    assert {text.split(" ")[0] for text in found} == {"a.tar", "b.tar", "c.tar.gz", "d.tar", "e.tar", "f.tar"}
    text = "\n".join(caught.value.problems)
    for expected in (
        "s/mp3: needs one .wav or one .flac, has .mp3",
        "s/both: needs one .wav or one .flac, has .flac, .wav",
        "s/cut.wav: truncated",
        "s/stereo.wav: 16000 Hz, 2 channels",
        "nospeaker: no speaker",
        "s/json.json: not JSON",
        "b.tar: key 's/good' is also in a.tar",
        "c.tar.gz: a compressed tar",
        "d.tar: not a tar",
        "e.tar: not a tar, or cut short",
        "f.tar: holds no sample",
    ):
        assert expected in text
    assert not list(tmp_path.glob("*.npz"))
    assert not (tmp_path / "manifest.json").exists()


def test_a_manifest_that_is_there_stays(tmp_path):
    write_tar(tmp_path / "a.tar", {"s/a.wav": audio.encode(noise(1), "wav")})
    index_tars(str(tmp_path))
    before = (tmp_path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match="--overwrite"):
        index_tars(str(tmp_path))
    index_tars(str(tmp_path), overwrite=True)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_no_tars(tmp_path):
    with pytest.raises(UserError, match=r"no \.tar directly below"):
        index_tars(str(tmp_path))
