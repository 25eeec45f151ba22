"""A miniature of what VoxCeleb's servers have: random bytes as parts and archives, and lists of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from file_server import FileServer, serving

from shard_tools.dataprep.lists import Lists, read_lists

PART = 200_001


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@dataclass
class Corpus:
    files: dict[str, bytes]
    folder: Path  # of the lists

    @property
    def lists(self) -> Lists:
        return read_lists(self.folder)


def write_lists(folder: Path, fileparts: str, files: str = "", augment: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in (("fileparts", fileparts), ("files", files), ("augment", augment)):
        (folder / f"{name}.txt").write_bytes(text.encode())
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    bits = random.Random(5)
    names = ["vox1_dev_wav_partaa", "vox1_dev_wav_partab", "vox1_test_wav.zip"]
    files = {name: bits.randbytes(PART + number) for number, name in enumerate(names)}
    fileparts = "".join(f"{name} {md5(data)}\n" for name, data in files.items())
    whole = files[names[0]] + files[names[1]]
    folder = write_lists(
        tmp_path / "given", fileparts, f"vox1_dev_wav_parta* vox1_dev_wav.zip {md5(whole)}\n"
    )
    return Corpus(files, folder)


@pytest.fixture
def server(corpus: Corpus) -> Iterator[FileServer]:
    with serving(corpus.files) as server:
        yield server
