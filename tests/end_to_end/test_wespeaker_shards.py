"""Shards that wespeaker's own tool made (tests/golden/make_wespeaker_shards.py): indexed where they lie, and
trained on."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from wespeaker_recipe import FOLDER, packed

from shard_tools.cli import main
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.read.reader import Reader
from train.config.parsing import parse
from train.run import run


@pytest.fixture
def theirs(tmp_path) -> Path:
    """A copy of their shards."""
    shutil.copytree(FOLDER, tmp_path / "theirs")
    return tmp_path / "theirs"


@pytest.mark.slow
def test_every_utterance_is_found_with_its_speaker_and_a_step_is_trained(theirs, tmp_path, capsys):
    before = {path.name: path.read_bytes() for path in theirs.glob("*.tar")}
    assert main(["index", str(theirs), "--workers", "1"]) == 0
    assert "speakers are from KEY.spk (6)" in capsys.readouterr().out
    assert main(["verify", str(theirs), "--workers", "1"]) == 0
    assert {path.name: path.read_bytes() for path in theirs.glob("*.tar")} == before
    catalogue = open_catalogue(str(theirs))
    assert len(catalogue) == len(packed()) == 6
    for theirs_key, samples in packed().items():
        u = catalogue.find(theirs_key.rpartition(".")[0])
        assert np.array_equal(Reader(catalogue).utterance(u), samples)
        assert catalogue.speakers[catalogue.label[u]] == theirs_key.split("/")[0]

    words = (
        f"--data.url {theirs} --data.crop_frames 30 --data.workers 0 --batch.speakers 3 --model.name tdnn"
        f" --loss.name softmax --train.steps 1 --train.device cpu --run.folder {tmp_path / 'run'}"
    )
    assert run(parse(words.split()))
    assert (tmp_path / "run/checkpoints/step-00000001.pt").exists()


@pytest.mark.parametrize("name", ["shards_000000000.tar.gz", "shards_000000000.tar"])
def test_what_was_compressed_afterwards_is_refused_with_the_remedy(theirs, capsys, name):
    """Their tool compresses nothing, but their reader takes what was compressed by hand."""
    first = theirs / "shards_000000000.tar"
    data = first.read_bytes()
    first.unlink()
    (theirs / name).write_bytes(gzip.compress(data))
    assert main(["index", str(theirs), "--workers", "1"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "unpack it" in error
    assert not (theirs / "manifest.json").exists()
