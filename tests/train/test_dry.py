"""A dry run says what a run would take, and leaves nothing behind."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from processes import finish, torchrun
from torch.utils.flop_counter import FlopCounterMode

from models.registry import build_network
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.errors import UserError
from train.config.parsing import parse
from train.data.assemble import build_plan, open_training_data
from train.run import run


def options(corpus, folder):
    return [
        "--data.url", corpus.wav, "--train.epochs", "3", "--run.folder", str(folder), "--train.device", "cpu",
        "--data.crop_frames", "50", "--data.workers", "2", "--batch.speakers", "8", "--model.name", "tdnn",
        "--loss.name", "amsoftmax", "--schedule.name", "cosine", "--train.dry", "true",
    ]  # fmt: skip


def lines(text):
    """By the word that each begins with, those of parameters one after the other."""
    return re.findall(r"^(dry run|parameters|FLOPs|memory|storage|step|epoch) +(.*)$", text, re.MULTILINE)


def batch_bytes(config):
    """Of the PCM of the first batch's crops, without augmentation."""
    data = open_training_data(config)
    batch = build_plan(data, config).batch(0)
    return 2 * int(np.minimum(open_catalogue(config.data.url).frames[batch.utterance], 50 * 160 + 240).sum())


@pytest.mark.slow
def test_what_a_step_takes_is_said_and_nothing_is_left(
    corpus, tmp_path, tmp_path_factory, capsys, monkeypatch
):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))  # torch's own
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    config = parse(options(corpus, tmp_path / "run"))
    assert run(config)
    assert list(tmp_path.iterdir()) == []
    found = lines(capsys.readouterr().out)
    assert [name for name, _ in found] == [
        "dry run", "parameters", "parameters", "FLOPs", "memory", "storage", "step", "epoch"
    ]  # fmt: skip
    said = [text for _, text in found]
    network = build_network("tdnn", config.model.options)
    count = sum(each.numel() for each in network.parameters())
    assert said[0] == "one step of 8 crops; nothing was written"
    assert said[1] == f"{count:,} of the network, {count:,} of them trained"
    assert said[5].startswith(f"{batch_bytes(config) / 1e6:.2f} MB were read")
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(8, 50 * 160 + 240))
    number, unit = re.match(r"([\d.]+) ([MG]) a step, .* crops of 50 feature frames$", said[3]).groups()
    # Back a product takes two of its size, but for the first layer's, and the loss has one of its own.
    forward = counter.get_total_flops()
    assert 2.5 < float(number) * {"M": 1e6, "G": 1e9}[unit] / forward < 3.1
    assert re.match(
        r"12 steps, about \d+:\d+ with 2 reading .* \d+:\d+ for the 36 steps of the run$", said[7]
    )


@pytest.mark.slow
def test_a_run_that_is_there_is_left_alone(corpus, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text("mine")
    (folder / "lock").write_text("held by another")
    assert run(parse(options(corpus, folder)))
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "lock"]
    assert (folder / "config.yaml").read_text() == "mine"


@pytest.mark.slow
def test_a_cache_is_left_alone_and_noise_counts(corpus, tmp_path, capsys):
    more = [
        "--data.access",
        "cached",
        "--data.cache.folder",
        str(tmp_path / "cache"),
        "--augment.none.weight",
        "0",
    ]
    config = parse([*options(corpus, tmp_path / "run"), *more, "--augment.noise.url", corpus.noise])
    assert run(config)
    assert list(tmp_path.iterdir()) == []
    (text,) = [text for name, text in lines(capsys.readouterr().out) if name == "storage"]
    assert text.endswith("by crops: a cache brings whole shards")
    assert float(text.split()[0]) > 1.3 * batch_bytes(config) / 1e6  # a clip is as long as a crop, or shorter


def test_jobs_are_not_dry_runs(corpus, tmp_path):
    with pytest.raises(UserError, match=r"train\.dry is true, which is for a run started by hand"):
        parse([*options(corpus, tmp_path), "--check", "2"])


@pytest.mark.slow
def test_of_several_processes_one_speaks_for_all(corpus, tmp_path):
    arguments = options(corpus, tmp_path / "run")
    status, output = finish(torchrun(2, "-m", "train", *arguments), tmp_path / "out", 90)
    assert status == 0, output
    found = dict(lines(output))
    assert found["dry run"] == "one step of 8 crops on 2 processes; nothing was written"
    assert output.count("dry run ") == 1
    assert found["storage"].startswith(f"{batch_bytes(parse(arguments)) / 1e6:.2f} MB were read")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_failure_leaves_nothing_either(corpus, tmp_path):
    words = options(corpus, tmp_path / "run")
    words[1] = str(tmp_path / "nowhere")
    status, output = finish(torchrun(1, "-m", "train", *words), tmp_path / "out", 90)
    assert status == 1
    assert "nowhere/manifest.json" in output
    assert not (tmp_path / "run").exists()
