"""A miniature of what VoxCeleb's servers have: random bytes as parts and archives, and lists of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from archives import md5
from file_lists import write_lists
from file_server import FileServer, serving

from shard_tools.dataprep.archive_lists import Lists, read_lists

PART = 200_001


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's servers are asked by themselves, and nobody's own account is used."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    for name in ("VOXCELEB_USER", "VOXCELEB_PASSWORD", "VOXCELEB_KEY"):
        monkeypatch.delenv(name, raising=False)


@dataclass
class Corpus:
    files: dict[str, bytes]
    folder: Path  # of the lists

    @property
    def lists(self) -> Lists:
        return read_lists(self.folder)


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
