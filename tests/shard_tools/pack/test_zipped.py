from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from aac_files import encoded, speechlike

from shard_tools import audio
from shard_tools.audio.convert import convert
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.errors import UserError
from shard_tools.pack.corpus import find_corpus
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.packing import PackOptions, pack, pack_part
from shard_tools.pack.parts import Part
from shard_tools.pack.zipped import outer_folder
from shard_tools.read.reader import Reader

CONVERT = PackOptions(convert=True, utterances_per_shard=2)
M4A = [encoded(speechlike(6000, number)) for number in range(4)]
NAMES = [f"id{number % 2}/vidéo {number}/00001.m4a" for number in range(4)]


def archive(path: Path, names: list[str], method: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("dev/", b"")
        file.writestr("LICENSE", b"words")
        for name, data in zip(names, M4A, strict=False):
            info = zipfile.ZipInfo("x")
            info.filename = name  # whatever it holds
            file.writestr(info, data, method)
    return str(path)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_is_packed_as_what_it_unpacks_to(tmp_path, method):
    root = archive(tmp_path / "vox2_dev_aac.zip", [f"dev/aac/{name}" for name in NAMES], method)
    pack(root, str(tmp_path / "zip"), options=CONVERT, workers=2)
    with zipfile.ZipFile(root) as file:
        file.extractall(tmp_path / "unpacked")
    pack(str(tmp_path / "unpacked" / "dev" / "aac"), str(tmp_path / "folder"), options=CONVERT)
    assert contents(tmp_path / "zip") == contents(tmp_path / "folder")
    catalogue = open_catalogue(str(tmp_path / "zip"))
    found = Reader(catalogue).utterance(catalogue.find("id1/vidéo 1/00001"))
    assert np.array_equal(found, convert(M4A[1], "x").samples)
    again = pack(root, str(tmp_path / "zip"), options=CONVERT)
    assert again.reused == len(again.manifest.shards) == 2


def test_a_folder_in_an_archive_is_a_root_too_and_parts_are_the_whole(tmp_path):
    root = archive(tmp_path / "a.zip", [f"odd/{name}" for name in NAMES]) + "/odd"
    (tmp_path / "list").write_text("".join(f"{name[:3]} {name}\n" for name in NAMES))
    pack(root, str(tmp_path / "whole"), options=CONVERT, list_url=str(tmp_path / "list"))
    for index in (1, 2):
        part = pack_part(
            root, str(tmp_path / "parts"), Part(2, index), options=CONVERT, list_url=str(tmp_path / "list")
        )
        assert len(part.shards) == 1
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    assert {name for name in whole if name.endswith(".tar")} <= set(parts)
    assert all(parts[name] == data for name, data in whole.items() if name.endswith(".tar"))


def test_wavs_that_fit_keep_their_bytes(tmp_path):
    data = audio.encode(speechlike(1000), "wav")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("wav/id1/v/1.wav", data)
    pack(str(tmp_path / "a.zip"), str(tmp_path / "out"))
    assert data in (tmp_path / "out" / "shard-000000.tar").read_bytes()


@pytest.mark.parametrize(
    ("paths", "folder"),
    [
        (["dev/aac/id1/v/1.m4a", "dev/aac/id2/v/1.m4a"], "dev/aac"),
        (["id1/v/1.m4a", "id1/w/2.m4a"], ""),
        (["wav/id1/v/1.wav"], "wav"),
        (["dev/id1/1.wav", "test/id1/1.wav"], ""),
        (["LibriSpeech/dev/1.wav"], ""),
        ([], ""),
    ],
)
def test_outer_folders_are_those_that_are_no_speakers(paths, folder):
    assert outer_folder(paths) == folder


def test_damage_in_the_archive_is_named(tmp_path):
    root = Path(archive(tmp_path / "a.zip", NAMES))
    data = bytearray(root.read_bytes())
    at = data.index(b"mdat", data.index(NAMES[2].encode())) + 200
    data[at] ^= 0xFF
    root.write_bytes(data)
    with pytest.raises(ProblemsError, match=r"a\.zip/id0/vidéo 2/00001\.m4a: damaged in the archive"):
        pack(str(root), str(tmp_path / "out"), options=CONVERT)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused_before_anything_is_made(tmp_path, method):
    root = archive(tmp_path / "a.zip", NAMES, method)
    with pytest.raises(ProblemsError, match="not stored or deflated; unpack the archive"):
        pack(root, str(tmp_path / "out"), options=CONVERT)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["../id1/1.m4a", "/id1/1.m4a", "id1/../../1.m4a", "\0x"])
def test_names_that_lead_out_of_it_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="leads out of it"):
        find_corpus(archive(tmp_path / "a.zip", [name]))


def test_an_archive_that_is_cut_is_no_corpus(tmp_path):
    root = Path(archive(tmp_path / "a.zip", NAMES))
    root.write_bytes(root.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"a\.zip: not a whole ZIP archive"):
        find_corpus(str(root))


@pytest.mark.parametrize(("inner", "said"), [("", "does not exist"), ("a.txt", "not a folder, nor a ZIP")])
def test_what_is_no_root_is_said(tmp_path, inner, said):
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UserError, match=said):
        find_corpus(str(tmp_path / (inner or "absent")))
    with pytest.raises(UserError, match="no folder x in this archive"):
        find_corpus(archive(tmp_path / "a.zip", NAMES) + "/x")


def test_a_member_that_inflates_to_more_than_it_says_is_refused(tmp_path):
    root = Path(archive(tmp_path / "a.zip", NAMES[:1], zipfile.ZIP_DEFLATED))
    corpus = find_corpus(str(root))
    from dataclasses import replace

    (path,) = corpus.paths((".m4a",))[0]
    corpus.members[path] = replace(corpus.members[path], size=1000)
    with pytest.raises(audio.AudioError, match="has not the length or the CRC-32"), corpus.open(path):
        pass
