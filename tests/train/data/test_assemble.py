"""Training by windows opens no more than its windows' indexes, and plans what the whole catalogue would."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from project import REPO

from shard_tools import storage
from shard_tools.dataset.catalogue import Catalogue, open_catalogue
from shard_tools.dataset.layout import occurrence
from shard_tools.dataset.shardwise import ShardwiseCatalogue
from shard_tools.pack.packing import PackOptions, pack
from train.augment.speed import Speeds
from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, open_training_data, tell_of_slow_client
from train.data.loader import open_loader
from train.data.windowed import WindowedBatches
from train.plan import WindowUtterances

pytestmark = pytest.mark.slow


class Whole:
    """The columns of a plan from a whole catalogue, as an oracle."""

    def __init__(self, catalogue, speeds):
        self.catalogue, self.speeds = catalogue, speeds
        counts = np.bincount(catalogue.label)
        self.turn, self.total = occurrence(catalogue.label, len(counts)), counts[catalogue.label]

    def window(self, lanes):
        each = [
            np.concatenate([np.flatnonzero(self.catalogue.shard == shard) for shard in own]) for own in lanes
        ]
        number = [self.speeds.numbers(rows) for rows in each]
        original = self.speeds.split(np.concatenate(number))[1]
        return WindowUtterances(
            np.concatenate(number),
            np.concatenate([self.speeds.labels(self.catalogue.label[rows]) for rows in each]),
            np.concatenate([self.speeds.frames(self.catalogue.frames[rows]) for rows in each]),
            np.repeat(np.arange(len(lanes)), [len(part) for part in number]),
            self.turn[original],
            self.total[original],
        )


@pytest.fixture(scope="module")
def shards(corpus, tmp_path_factory):
    """16 shards of 6 utterances."""
    url = str(tmp_path_factory.mktemp("shardwise") / "wav")
    pack(str(corpus.folder / "wav"), url, options=PackOptions(utterances_per_shard=6, group=2))
    return url


def configure(url, *more):
    config = parse(
        [
            "--data.url", url, "--train.steps", "1", "--batch.speakers", "4", "--data.crop_frames", "50",
            "--data.order", "windows", "--data.windows.lanes", "2", "--data.windows.shards", "2", *more,
        ]
    )  # fmt: skip
    return config


@pytest.mark.parametrize("cap", [(), ("--batch.max_utterances_per_speaker", "3")])
@pytest.mark.parametrize("speeds", [(), ("--augment.speed", "[0.9, 1.1]")])
def test_the_plan_is_that_of_the_whole_catalogue(shards, cap, speeds):
    config = configure(shards, *cap, *speeds)
    data, whole = open_training_data(config), open_catalogue(shards)
    plan = build_plan(data, config)
    made = Speeds.of(config.augment.speed, len(whole), len(whole.speakers))
    expected = WindowedBatches(Whole(whole, made), plan.speakers, plan.spec, plan.windows)
    assert plan.account() == expected.account()
    assert (plan.account().over_cap > 0) == bool(cap)
    for step in range(100):
        ours, theirs = plan.batch(step), expected.batch(step)
        for name in ("epoch", "n", "utterance", "label", "start"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
    assert plan.epoch_of(99) >= 1


def test_only_the_windows_indexes_are_read(shards):
    config = configure(shards, "--batch.max_utterances_per_speaker", "4")
    data = open_training_data(config)
    catalogue = data.table
    assert isinstance(catalogue, ShardwiseCatalogue)
    assert catalogue.reads == 0
    plan = build_plan(data, config)
    assert catalogue.reads == 4
    stream = build_stream(config, data, plan, 0, 1, 1)
    second = plan.following(plan.anchor(0)).step
    assert list(open_loader(stream, 0, second, workers=0, prefetch=2))
    assert catalogue.reads == 4
    assert list(open_loader(stream, second, second + 1, workers=0, prefetch=2))
    assert catalogue.reads == 8


def test_by_the_epoch_the_whole_catalogue_is_opened(shards):
    data = open_training_data(configure(shards, "--data.order", "epoch"))
    assert isinstance(data.table, Catalogue)


def test_ranks_substitute_the_same(shards, tmp_path):
    url = tmp_path / "shards"
    shutil.copytree(shards, url)
    for lost in (3, 8):
        (url / f"shard-{lost:06d}.tar").unlink()
    config = configure(str(url), "--data.on_error", "substitute")

    def read(rank, world):
        data = open_training_data(config)
        stream = build_stream(config, data, build_plan(data, config), rank, world, world)
        return list(open_loader(stream, 0, 16, workers=0, prefetch=2))

    alone, parts = read(0, 1), [read(rank, 2) for rank in (0, 1)]
    for whole, *shares in zip(alone, *parts, strict=True):
        for name in ("audio", "label", "utterance"):
            assert torch.equal(torch.cat([share[name] for share in shares]), whole[name])
        assert sum(share["substituted"] for share in shares) == whole["substituted"]
    assert sum(batch["substituted"] for batch in alone) > 0


WALK = """
import hashlib, os, sys
from train.config.parsing import parse
from train.data.assemble import build_plan, configure_storage, open_training_data

config = parse(sys.argv[1:])
configure_storage(config.data)
plan = build_plan(open_training_data(config), config)
drawn = b"".join(plan.batch(step).utterance.tobytes() for step in range(40))
print(plan.epoch_of(39), hashlib.sha256(drawn).hexdigest(), "s3fs" in sys.modules)
"""


@pytest.mark.slow
@pytest.mark.s3
def test_a_process_that_is_to_fork_needs_no_fsspec_to_walk_over_windows(shards, s3_folder):
    for name in os.listdir(shards):
        storage.publish_bytes(f"{s3_folder}/{name}", Path(shards, name).read_bytes())
    arguments = ["--data.order", "windows", "--data.windows.lanes", "2", "--data.windows.shards", "2"]
    arguments += ["--train.steps", "1", "--batch.speakers", "4", "--data.url"]

    def walked(url):
        command = [sys.executable, "-c", WALK, *arguments, url]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    found = walked(s3_folder)
    assert found == walked(shards)
    assert found[0::2] == ["1", "False"]


@pytest.mark.parametrize("installed", [True, False])
def test_remote_data_without_the_faster_client_is_said_once(monkeypatch, caplog, installed):
    found = object() if installed else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found if name == "obstore" else object())
    config = parse(
        ["--data.url", "s3://bucket/a", "--train.steps", "1", "--augment.noise.url", "s3://bucket/b"]
    )
    with caplog.at_level(logging.WARNING):
        tell_of_slow_client(config)
    assert caplog.text.count("pip install 'voxshard[s3]'") == (0 if installed else 1)
    assert installed or "s3://bucket/a is read by fsspec" in caplog.text
