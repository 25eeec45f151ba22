"""`python -m train average`: its words, and its place in the command."""

from __future__ import annotations

import sys

import pytest

from eval.checkpoint.file import read_checkpoint
from shard_tools import voxshard
from train.__main__ import main
from train.life.checkpoint import CheckpointFolder


def make_run(folder, keep=3):
    import torch

    (folder / "config.yaml").write_text("checkpoint: {url: null}\n")
    checkpoints = CheckpointFolder(str(folder / "checkpoints"), keep=keep)
    config = {"model": {"name": "tdnn"}, "checkpoint": {"keep": keep}}
    for step in (10, 20, 30):
        checkpoints.save({"step": step, "config": config, "network": {"weight": torch.tensor([float(step)])}})


def test_a_runs_newest(tmp_path, monkeypatch, capsys):
    make_run(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "average", str(tmp_path), "--last", "2"])
    assert main() == 0
    assert read_checkpoint(str(tmp_path / "average.pt"))["network"]["weight"].item() == 25
    assert "average.pt: the mean of 2 checkpoints" in capsys.readouterr().out
    assert (
        voxshard.main(
            ["train", "average", str(tmp_path), "--steps", "10", "30", "--out", str(tmp_path / "o.pt")]
        )
        == 0
    )
    assert read_checkpoint(str(tmp_path / "o.pt"))["network"]["weight"].item() == 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--last", "4"], "holds 3 checkpoints in a row, and 4 are to be averaged"),
        (["--steps", "10", "10"], "each step may stand there once"),
        (["--out", "step-00000001.pt"], "give another name"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, words, said):
    make_run(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train", "average", str(tmp_path), "--last", "2", *words][:3] + words)
    if words[0] == "--out":
        sys.argv += ["--last", "2"]
    assert main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train average: error: ")
    assert said in line
