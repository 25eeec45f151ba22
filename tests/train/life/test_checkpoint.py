"""Checkpoints: kept and dropped, whole or refused, and what may go on from them."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from eval.checkpoint.file import Best, CheckpointError, Rates, load_weights, read_checkpoint
from shard_tools import storage
from shard_tools.errors import UserError
from train.config.parsing import parse
from train.life.checkpoint import CheckpointFolder
from train.life.log import _drop_later
from train.life.resume import changes, check_resumable, kept_config


def state(step, **more):
    network = {"weight": torch.arange(1000.0) + step}
    return {"step": step, "config": {"model": {"name": "tdnn"}}, "network": network, **more}


@pytest.fixture(params=["local", "memory"])
def url(request, tmp_path):
    return (
        str(tmp_path / "checkpoints") if request.param == "local" else f"memory://{tmp_path.name}/checkpoints"
    )


def test_the_newest_and_the_best_are_kept(url):
    folder = CheckpointFolder(url, keep=2)
    for step, eer in [(0, None), (10, 30.0), (20, 12.0), (30, 15.0), (40, None), (50, 14.0)]:
        folder.save(state(step))
        if eer is not None:
            folder.note(Rates(step, eer, {"0.05": 0.5}, "trials.txt"))
    assert folder.steps() == [20, 40, 50]
    assert [step for step in range(60) if folder.rates(step)] == [20, 50]
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


def rewritten(change):
    """A checkpoint's bytes of which `change`, given its dictionary, has made something else."""
    checkpoint = {"format": "voxshard-checkpoint", "version": 1, **state(30)}
    change(checkpoint)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (np.random.default_rng(0).bytes(300), "not a voxshard checkpoint"),
        (b"PK" + np.random.default_rng(0).bytes(300), "cut short"),
        (rewritten(lambda c: c.pop("step")), "step"),
        (rewritten(lambda c: c.update(step="30")), "field step"),
        (rewritten(lambda c: c.update(step=float("nan"))), "field step"),
        (rewritten(lambda c: c.update(step=20)), "field step: it is 20, not as the name says"),
        (rewritten(lambda c: c.update(config=[])), "field config"),
        (rewritten(lambda c: c.update(network=None)), "field network"),
        (rewritten(lambda c: c["network"].update(weight="x")), "field network"),
    ],
)
def test_whatever_is_wrong_with_the_newest_the_one_before_is_taken(url, data, text):
    folder = CheckpointFolder(url, keep=3)
    folder.save(state(20))
    storage.publish_bytes(folder.url_of(30), data)
    warnings = []
    found = folder.newest_whole(warnings.append)
    assert found is not None
    assert found["step"] == 20
    (warning,) = warnings
    assert text in warning
    assert "\n" not in warning


@pytest.mark.parametrize("seed", range(40))
def test_a_changed_byte_anywhere_is_a_checkpoint_error_or_does_no_harm(seed, tmp_path):
    random = np.random.default_rng(seed)
    data = bytearray(rewritten(lambda c: None))
    # most of them near the end, where the archive's directory is
    position = len(data) - 1 - int(random.integers(600 if seed % 4 else len(data)))
    data[position] ^= 1 << int(random.integers(8))
    (tmp_path / "c.pt").write_bytes(data)
    with contextlib.suppress(CheckpointError):
        found = read_checkpoint(str(tmp_path / "c.pt"))
        assert torch.equal(found["network"]["weight"], torch.arange(1000.0) + 30)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ({"weight": torch.zeros(2, 3, dtype=torch.int64), "bias": torch.zeros(2)}, "int64"),
        ({"weight": torch.full((2, 3), float("nan")), "bias": torch.zeros(2)}, "NaN or infinity"),
        ({"weight": torch.zeros(2, 3)}, "'bias' .*absent"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, r"\[3, 2\]"),
    ],
)
def test_weights_that_are_no_weights_of_the_module_are_named(weights, text):
    with pytest.raises(CheckpointError, match=text):
        load_weights(torch.nn.Linear(3, 2), weights, "c.pt")


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path):
    folder = CheckpointFolder(str(tmp_path), keep=3)
    folder.save(state(10))
    draft = tmp_path / ".step-00000020.pt.0123abcd.part"
    others = tmp_path / ".notes.0123abcd.part"
    for path in (draft, others):
        path.write_bytes(b"half")
    assert folder.remove_drafts() == [draft.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == [others.name, "step-00000010.pt"]


def test_where_drafts_cannot_be_removed_nothing_is_said(tmp_path, monkeypatch, caplog):
    def refused(*_):
        raise storage.StorageError("access refused")

    monkeypatch.setattr(storage, "remove_drafts", refused)
    with caplog.at_level("INFO"):
        assert CheckpointFolder(str(tmp_path), keep=3).remove_drafts() == []
    assert caplog.text == ""


def test_rates_of_steps_that_are_made_anew_are_forgotten(url):
    folder = CheckpointFolder(url, keep=5)
    for step, eer in [(10, 20.0), (20, 10.0)]:
        folder.save(state(step))
        folder.note(Rates(step, eer, {}, "t"))
    folder.forget_after(10)
    assert folder.rates(20) is None
    assert folder.best() == Best(10, 20.0)


def test_credentials_are_not_kept():
    secret = "https://user:secret@host/x"
    config = parse(["--data.url", secret, "--train.steps", "10"])
    assert "secret" not in str(kept_config(config))
    check_resumable({"config": kept_config(config), "manifest_digest": "aaaa"}, "c.pt", config, "aaaa")


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
    return {"config": asdict(parse([*BASE, *arguments])), "manifest_digest": "aaaa"}


def test_another_manifest_is_refused_with_both_digests():
    with pytest.raises(
        UserError, match=r"aaaa.*bbbb \(other shards, or some were appended\).*init.from c\.pt"
    ):
        check_resumable(checkpoint_of(), "c.pt", parse(BASE), "bbbb")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (["--run.seed", "1"], "run.seed is 1, and c.pt was trained with 0"),
        (["--batch.speakers", "8"], "batch.speakers is 8"),
        (["--batch.leftover", "rollover"], "batch.leftover is rollover, and c.pt was trained with drop"),
        (
            ["--model.options.pooling", "asp"],
            r"model\.options\.pooling is asp, and c\.pt was trained with sap",
        ),
        (["--loss.name", "angleproto"], "loss.name is angleproto"),
    ],
)
def test_options_that_would_change_the_stream_or_the_network_are_refused(arguments, key):
    with pytest.raises(UserError, match=key):
        check_resumable(checkpoint_of(), "c.pt", parse([*BASE, *arguments]), "aaaa")


@pytest.mark.slow
def test_an_option_younger_than_the_checkpoint_counts_as_its_default():
    before = checkpoint_of()
    del before["config"]["batch"]["leftover"]
    del before["config"]["loss"]["sharded"]
    check_resumable(before, "c.pt", parse(BASE), "aaaa")
    assert changes(before, parse([*BASE, "--loss.sharded", "true"])) == ["loss.sharded: False → True"]
    with pytest.raises(UserError, match=r"batch\.leftover is rollover, and c\.pt was trained with drop"):
        check_resumable(before, "c.pt", parse([*BASE, "--batch.leftover", "rollover"]), "aaaa")


@pytest.mark.slow
def test_options_are_compared_by_their_values_not_by_their_spelling():
    before = checkpoint_of("--model.name", "tdnn")
    before["config"]["model"]["options"] = {}
    before["config"]["schedule"] = {"gamma": 0.95, "every": 10, "unit": "epochs"}
    config = parse([*BASE, "--model.name", "tdnn", "--model.options.channels", "128"])
    check_resumable(before, "c.pt", config, "aaaa")
    assert changes(before, config) == []
    with pytest.raises(UserError, match=r"model\.options\.channels is 64, and c\.pt was trained with 128"):
        check_resumable(
            before, "c.pt", parse([*BASE, "--model.name", "tdnn", "--model.options.channels", "64"]), "aaaa"
        )


@pytest.mark.slow
def test_other_options_may_change_and_are_named():
    config = parse([*BASE, "--optim.lr", "0.1", "--data.workers", "9", "--augment.noise.url", "n"])
    before = checkpoint_of()
    check_resumable(before, "c.pt", config, "aaaa")
    assert changes(before, config) == ["augment.noise.url: None → n", "optim.lr: 0.001 → 0.1"]


def test_metrics_after_the_resumed_step_and_a_torn_line_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "group": "train"}) + "\n" for step in (10, 20, 30)]
    path.write_text("".join(lines) + '{"step": 4')
    _drop_later(str(path), 20)
    assert path.read_text() == "".join(lines[:2])


@pytest.mark.slow
def test_varying_lengths_go_on_and_one_length_does_not_become_two():
    varying = ("--data.crop_frames", "[200, 400]")
    check_resumable(checkpoint_of(*varying), "c.pt", parse([*BASE, *varying]), "aaaa")
    with pytest.raises(UserError, match=r"^data.crop_frames is \[200, 400\], and c.pt was trained with 200"):
        check_resumable(checkpoint_of(), "c.pt", parse([*BASE, *varying]), "aaaa")
