"""What the release 0.1.0 left on users' disks is still read, and goes on to the same results.

version-0.1.0.tar.xz holds what that release made of 12 utterances: shards/wav and shards/flac, a node's
cache of the first, a run that ended at step 4 of what became 8, jobs as they lie pickled in a queue, and
in expected/ what it made of these itself: the checkpoint of step 8, its metrics, the scores of step 4.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import answer

from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.verification import verify
from shard_tools.read.reader import Reader

ARCHIVE = Path(__file__).with_name("version-0.1.0.tar.xz")


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the release; paths in them start from this folder."""
    with tarfile.open(ARCHIVE) as tar:
        tar.extractall(tmp_path, filter="data")
    # A cache knows its own files by their times, to the nanosecond.
    for name, time in json.loads((tmp_path / "cache-times.json").read_text()).items():
        os.utime(tmp_path / "cache" / name, ns=(time, time))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> None:
    done = answer([sys.executable, "-m", *words])
    assert done.returncode == 0, done.stderr[-2000:]


def losses(path: Path) -> list[float]:
    lines = map(json.loads, path.read_text().splitlines())
    return [line["loss"] for line in lines if line["group"] == "train"]


def test_shards_are_verified_and_hold_the_same_audio(old: Path) -> None:
    assert verify("shards/wav").problems == []
    assert verify("shards/flac").problems == []
    wav, flac = open_catalogue("shards/wav", block_crcs=True), open_catalogue("shards/flac", block_crcs=True)
    assert len(wav) == len(flac) == 12
    for u in range(12):
        same = flac.find(wav.key(u))
        assert same is not None
        np.testing.assert_array_equal(
            Reader(wav, verify="crops").utterance(u), Reader(flac, verify="crops").utterance(same)
        )


def test_queued_jobs_are_understood(old: Path) -> None:
    training = pickle.loads((old / "queued-train.pkl").read_bytes()).training
    assert (training.folder, training.arguments, training.ranks) == (
        "run",
        ("--config", "run/jobs/c.yaml"),
        2,
    )
    assert (training.interface, training.tries, training.python) == ("eth0", 4, "python3")
    command = pickle.loads((old / "queued-command.pkl").read_bytes()).command
    assert command == ("python3", "-m", "eval", "run")


def whole(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.flatten() for value in state.values() if value.is_floating_point()])


@pytest.mark.slow
def test_a_run_goes_on_to_the_same_weights(old: Path) -> None:
    """Compared as far as another kind of CPU computes the same.

    A bias before a batch normalisation has a gradient of rounding alone, which Adam makes steps of whole size
    of: 0.3 % of the way that the weights went.
    """
    run("train", "--config", "run/config.yaml", "--train.steps", "8")
    began = torch.load(old / "run/checkpoints/step-00000004.pt", weights_only=True)
    expected = torch.load(old / "expected/step-00000008.pt", weights_only=True)
    found = torch.load(old / "run/checkpoints/step-00000008.pt", weights_only=True)
    for part in ("network", "loss"):
        assert found[part].keys() == expected[part].keys()
        before, wanted, now = (whole(state[part]) for state in (began, expected, found))
        assert (now - wanted).norm() <= 0.01 * (wanted - before).norm()
    assert losses(old / "run/metrics.jsonl") == pytest.approx(
        losses(old / "expected/metrics.jsonl"), rel=1e-5
    )


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_to_the_same_scores(old: Path) -> None:
    words = ("--trials", "trials.txt", "--data", "shards/flac", "--out", "out", "--device", "cpu")
    run("eval", "run/checkpoints/step-00000004.pt", *words)
    found, expected = (
        [float(line.split()[0]) for line in (old / name / "scores.txt").read_text().splitlines()]
        for name in ("out", "expected")
    )
    assert found == pytest.approx(expected, abs=1e-6)
    metrics = json.loads((old / "out/metrics.json").read_text())
    assert metrics["eer"] == json.loads((old / "expected/metrics.json").read_text())["eer"]


@pytest.mark.slow
def test_a_cache_is_used_again(old: Path) -> None:
    before = {path.name: path.stat().st_ino for path in (old / "cache").glob("*.shard")}
    assert len(before) == 2
    words = ("--data.access", "cached", "--data.cache.folder", "cache", "--data.windows.shards", "2")
    run("train", "--config", "run/config.yaml", *words, "--run.folder", "other", "--train.steps", "2")
    assert {path.name: path.stat().st_ino for path in (old / "cache").glob("*.shard")} == before
