"""Checkpoints: kept and dropped, whole or refused, and what may go on from them."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from eval.checkpoint_file import CheckpointError, read_checkpoint
from shard_tools import storage
from shard_tools.errors import UserError
from train.checkpoint import CheckpointFolder
from train.config import parse
from train.log import _drop_later
from train.resume import changes, check_resumable


def state(step, **more):
    return {"step": step, "network": {"weight": torch.arange(1000.0) + step}, **more}


@pytest.fixture(params=["local", "memory"])
def url(request, tmp_path):
    return (
        str(tmp_path / "checkpoints") if request.param == "local" else f"memory://{tmp_path.name}/checkpoints"
    )


def test_the_newest_and_the_best_are_kept(url):
    folder = CheckpointFolder(url, keep=2)
    for step, eer in [(0, None), (10, 30.0), (20, 12.0), (30, 15.0), (40, None), (50, 14.0)]:
        folder.save(state(step), eer)
    assert folder.steps() == [20, 40, 50]
    best = folder.best()
    assert best is not None
    assert (best.step, best.eer) == (20, 12.0)
    assert json.loads(storage.read_bytes(storage.join(url, "best.json")))["checkpoint"] == "step-00000020.pt"


def test_resume_takes_the_newest_whole_one_and_says_what_it_passed_over(url):
    folder = CheckpointFolder(url, keep=3)
    for step in (10, 20, 30):
        folder.save(state(step))
    newest = storage.read_bytes(folder.url_of(30))
    storage.publish_bytes(folder.url_of(30), newest[: len(newest) // 2])
    middle = bytearray(storage.read_bytes(folder.url_of(20)))
    position = middle.index(torch.arange(1000.0).add(20)[500:510].numpy().tobytes())
    middle[position] ^= 0x40  # one bit of one weight
    storage.publish_bytes(folder.url_of(20), bytes(middle))
    warnings = []
    found = folder.newest_whole(warnings.append)
    assert found is not None
    assert found["step"] == 10
    assert len(warnings) == 2
    assert "step-00000030.pt" in warnings[0]
    assert "cut short" in warnings[0]
    assert "damaged" in warnings[1]


def test_no_checkpoint_starts_afresh_and_only_damaged_ones_do_not(url):
    folder = CheckpointFolder(url, keep=3)
    assert folder.newest_whole(pytest.fail) is None
    storage.publish_bytes(folder.url_of(10), b"PK not whole")
    with pytest.raises(CheckpointError, match="none of its 1 checkpoints can be read"):
        folder.newest_whole(lambda _: None)


def test_a_kill_while_writing_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    folder = CheckpointFolder(str(tmp_path), keep=3)
    folder.save(state(10))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        folder.save(state(20))
    assert folder.steps() == [10]


def test_files_of_others_are_refused(tmp_path):
    other = tmp_path / "step-00000001.pt"
    torch.save({"state_dict": {}}, other)
    with pytest.raises(CheckpointError, match="not a voxshard checkpoint"):
        read_checkpoint(str(other))


BASE = ["--data.url", "shards", "--train.steps", "10"]


def checkpoint_of(*arguments):
    return {"config": asdict(parse([*BASE, *arguments])[0]), "manifest_digest": "aaaa"}


def test_another_manifest_is_refused_with_both_digests():
    with pytest.raises(UserError, match=r"aaaa.*bbbb"):
        check_resumable(checkpoint_of(), "c.pt", parse(BASE)[0], "bbbb")


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--run.seed", "1"], "run.seed is 1, and c.pt was trained with 0"),
        (["--batch.speakers", "8"], "batch.speakers is 8"),
        (["--batch.leftover", "rollover"], "batch.leftover is rollover, and c.pt was trained with drop"),
        (["--model.options.pooling", "asp"], "model.options is"),
        (["--loss.name", "angleproto"], "loss.name is angleproto"),
    ],
)
def test_options_that_would_change_the_stream_or_the_network_are_refused(arguments, key):
    with pytest.raises(UserError, match=key):
        check_resumable(checkpoint_of(), "c.pt", parse([*BASE, *arguments])[0], "aaaa")


def test_an_option_younger_than_the_checkpoint_counts_as_its_default():
    before = checkpoint_of()
    del before["config"]["batch"]["leftover"]
    check_resumable(before, "c.pt", parse(BASE)[0], "aaaa")
    with pytest.raises(UserError, match=r"batch\.leftover is rollover, and c\.pt was trained with drop"):
        check_resumable(before, "c.pt", parse([*BASE, "--batch.leftover", "rollover"])[0], "aaaa")


def test_other_options_may_change_and_are_named():
    config = parse([*BASE, "--optim.lr", "0.1", "--data.workers", "9", "--augment.noise.url", "n"])[0]
    before = checkpoint_of()
    check_resumable(before, "c.pt", config, "aaaa")
    assert changes(before, config) == ["augment.noise.url: None → n", "optim.lr: 0.001 → 0.1"]


def test_metrics_after_the_resumed_step_and_a_torn_line_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step}) + "\n" for step in (10, 20, 30)]
    path.write_text("".join(lines) + '{"step": 4')
    _drop_later(str(path), 20)
    assert path.read_text() == "".join(lines[:2])
