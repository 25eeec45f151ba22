"""Utterances that are left out of training: the plan is that of what is left, in every order and set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.layout import occurrence
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from train.augment.speed import Speeds
from train.config.kept import kept_config
from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, open_training_data
from train.data.excluded import digest_of
from train.data.loader import open_loader
from train.data.windowed import WindowedBatches
from train.describe import _excluded
from train.life.resume import check_resumable
from train.plan import EpochPlan, WindowUtterances
from train.simulate.dataset import open_dataset

STEPS = 60


@pytest.fixture(scope="module")
def urls(corpus, tmp_path_factory):
    """The corpus of 16 speakers twice, in shards of 6 and of 12 utterances."""
    folder = tmp_path_factory.mktemp("excluded")
    for name, size in (("six", 6), ("twelve", 12)):
        pack(
            str(corpus.folder / "wav"),
            str(folder / name),
            options=PackOptions(utterances_per_shard=size, group=2, seed=size),
        )
    return {name: str(folder / name) for name in ("six", "twelve")}


def configure(url, order, *more):
    return parse(
        [
            "--data.url", url, "--train.steps", "1", "--batch.speakers", "4", "--data.crop_frames", "50",
            "--data.order", order, "--data.windows.lanes", "2", "--data.windows.shards", "2", *more,
        ]
    )  # fmt: skip


def drop(path, url, rows):
    catalogue = open_catalogue(url)
    path.write_text("".join(f"{catalogue.key(int(row))}\n" for row in rows))
    return str(path)


def same_batches(plan, expected, numbers=None):
    for step in range(STEPS):
        ours, theirs = plan.batch(step), expected.batch(step)
        for name in ("epoch", "n", "label", "start"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name))
        own = theirs.utterance if numbers is None else numbers[theirs.utterance]
        assert np.array_equal(ours.utterance, own)


@pytest.mark.parametrize("more", [(), ("--batch.leftover", "rollover"), ("--augment.speed", "[0.9]")])
def test_an_epoch_is_planned_of_what_is_left(urls, tmp_path, more):
    catalogue = open_catalogue(urls["six"])
    gone = np.array([80, 3, 4, 50])
    config = configure(urls["six"], "epoch", "--data.exclude", drop(tmp_path / "d", urls["six"], gone), *more)
    data = open_training_data(config)
    assert data.excluded.tolist() == [3, 4, 50, 80]
    plan = build_plan(data, config)
    speeds = Speeds.of(config.augment.speed, len(catalogue), 16)
    left = np.delete(np.arange(len(catalogue)), gone)
    labels, frames = speeds.labels(catalogue.label[left]), speeds.frames(catalogue.frames[left])
    expected = EpochPlan(labels, frames, 16 * len(speeds.factors), plan.spec)
    assert plan.account() == expected.account()
    assert plan.account().total == len(left) * len(speeds.factors)
    same_batches(plan, expected, speeds.numbers(left))


class Left:
    """The columns of a plan by windows, of what is left of a whole catalogue: an oracle."""

    def __init__(self, catalogue, gone):
        self.catalogue, self.left = catalogue, np.delete(np.arange(len(catalogue)), gone)

    def window(self, lanes):
        catalogue, left = self.catalogue, self.left
        label = catalogue.label[left]
        turn, total = occurrence(label, 16), np.bincount(label, minlength=16)[label]
        each = [np.concatenate([np.flatnonzero(catalogue.shard[left] == s) for s in own]) for own in lanes]
        rows = np.concatenate(each)
        lane = np.repeat(np.arange(len(lanes)), [len(part) for part in each])
        return WindowUtterances(
            left[rows], label[rows], catalogue.frames[left][rows], lane, turn[rows], total[rows]
        )


@pytest.mark.slow
@pytest.mark.parametrize("cap", [(), ("--batch.max_utterances_per_speaker", "3")])
def test_windows_are_planned_of_what_is_left(urls, tmp_path, cap):
    catalogue = open_catalogue(urls["six"])
    gone = np.random.default_rng(1).permutation(len(catalogue))[:20]
    exclude = drop(tmp_path / "drop.txt", urls["six"], gone)
    config = configure(urls["six"], "windows", "--data.exclude", exclude, *cap)
    data = open_training_data(config)
    plan = build_plan(data, config)
    expected = WindowedBatches(Left(catalogue, gone), 16, plan.spec, plan.windows)
    assert plan.account() == expected.account()
    assert (plan.account().over_cap > 0) == bool(cap)
    same_batches(plan, expected)
    simulated = open_dataset(urls["six"], exclude)
    same_batches(plan, WindowedBatches(simulated, 16, plan.spec, plan.windows))
    assert data.table.held < len(data.table.shard_urls) + 20
    assert len(data.table._parts) <= data.table.held


@pytest.mark.slow
@pytest.mark.parametrize("order", ["epoch", "windows"])
def test_several_datasets(urls, tmp_path, order):
    both = f"[{urls['six']}, {urls['twelve']}]"
    apart = ("--data.same_speakers", "apart", "--batch.speakers", "8", "--data.windows.shards", "1")
    first, second = [1, 2], [0, 7, 90]
    lists = [
        drop(tmp_path / "six", urls["six"], first),
        drop(tmp_path / "twelve", urls["twelve"], second),
    ]
    config = configure(both, order, *apart, "--data.exclude", f"[{lists[0]}, {lists[1]}]")
    data = open_training_data(config)
    expected = [1, 2, 96, 103, 186]
    assert data.excluded.tolist() == expected
    plan = build_plan(data, config)
    assert not any(np.isin(plan.batch(step).utterance, expected).any() for step in range(STEPS))
    config = configure(both, order, *apart, "--data.exclude", f"[null, {lists[1]}]")
    assert open_training_data(config).excluded.tolist() == expected[2:]
    config = configure(both, order, *apart, "--data.exclude", lists[0])
    with pytest.raises(UserError, match=r"several datasets have 2 of its keys: .*give a list of 2 files"):
        open_training_data(config)
    with pytest.raises(UserError, match=r"data.exclude has 1 file, and data.url 2 datasets"):
        configure(both, order, *apart, "--data.exclude", f"[{lists[0]}]")


@pytest.mark.parametrize("order", ["epoch", "windows"])
def test_unknown_keys_and_absent_lists_are_refused(urls, tmp_path, order):
    known = open_catalogue(urls["six"]).key(0)
    (tmp_path / "list").write_text(f"{known}\n" + "".join(f"nobody/{n:02d}\n" for n in range(12)))
    config = configure(urls["six"], order, "--data.exclude", str(tmp_path / "list"))
    with pytest.raises(UserError, match=r"12 of its 13 keys are not in .*: nobody/00, .*nobody/09, …"):
        open_training_data(config)
    with pytest.raises(UserError, match="absent"):
        open_training_data(configure(urls["six"], order, "--data.exclude", str(tmp_path / "absent")))
    (tmp_path / "empty").write_text("")
    data = open_training_data(configure(urls["six"], order, "--data.exclude", str(tmp_path / "empty")))
    assert digest_of(data.excluded) == ""


@pytest.mark.parametrize("order", ["epoch", "windows"])
def test_a_speaker_of_whom_nothing_is_left_keeps_the_label(urls, tmp_path, order):
    catalogue = open_catalogue(urls["six"])
    gone = np.flatnonzero(catalogue.label == 5)
    exclude = drop(tmp_path / "drop.txt", urls["six"], gone)
    config = configure(urls["six"], order, "--data.exclude", exclude)
    data = open_training_data(config)
    assert data.speakers == 16
    assert data.emptied == ((catalogue.speakers[5],),)
    said = _excluded(config, data)
    assert f"leaves out {len(gone)} of {len(catalogue)} utterances, all those of 1 speaker" in said
    assert catalogue.speakers[5] in said
    plan = build_plan(data, config)
    seen = np.unique([plan.batch(step).label for step in range(STEPS)])
    assert seen.tolist() == [label for label in range(16) if label != 5]


@pytest.mark.parametrize("order", ["epoch", "windows"])
def test_what_is_left_out_stands_in_for_nothing(urls, tmp_path, order):
    """Every speaker has two left, one of which cannot be read: the other stands in, from whatever shard."""
    catalogue = open_catalogue(urls["six"])
    turn = occurrence(catalogue.label, 16)
    gone = np.flatnonzero((turn != 0) & (turn != 5))
    exclude = drop(tmp_path / "drop.txt", urls["six"], gone)
    more = ("--data.exclude", exclude, "--data.on_error", "substitute", "--data.windows.shards", "8")
    config = configure(urls["six"], order, *more)
    data = open_training_data(config)
    stream = build_stream(config, data, build_plan(data, config), 0, 1, 1)
    broken = set(np.flatnonzero(turn == 0).tolist())
    loader = stream.loader
    tried = 0
    for batch in map(stream.plan.batch, range(4)):
        for row in np.flatnonzero(np.isin(batch.utterance, list(broken))).tolist():
            for attempt in (1, 2, 3):
                taken = int(loader._substitute(batch, row, attempt).utterance[row])
                assert (turn[taken], catalogue.label[taken]) == (5, batch.label[row])
                tried += 1
    assert tried > 3
    assert list(open_loader(stream, 0, 2, workers=0, prefetch=2))


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_utterances_left_out(urls, tmp_path):
    exclude = drop(tmp_path / "drop.txt", urls["six"], [4, 9])
    config = configure(urls["six"], "epoch", "--data.exclude", exclude)
    digest = digest_of(open_training_data(config).excluded)
    kept = {"config": kept_config(config), "manifest_digest": "m", "excluded_digest": digest}
    turned = drop(tmp_path / "turned.txt", urls["six"], [9, 4])
    moved = configure(urls["six"], "epoch", "--data.exclude", turned)
    check_resumable(kept, "here", moved, "m", digest_of(open_training_data(moved).excluded))
    more = drop(tmp_path / "drop.txt", urls["six"], [4, 9, 10])
    longer = configure(urls["six"], "epoch", "--data.exclude", more)
    with pytest.raises(UserError, match=r"data.exclude leaves out other utterances .*drop.txt"):
        check_resumable(kept, "here", longer, "m", digest_of(open_training_data(longer).excluded))
    whole = configure(urls["six"], "epoch")
    with pytest.raises(UserError, match=r"data.exclude leaves out nothing, and here was trained without"):
        check_resumable(kept, "here", whole, "m", "")
    before = {"config": kept_config(whole), "manifest_digest": "m"}  # of a release that knew no lists
    check_resumable(before, "here", whole, "m", "")
    with pytest.raises(UserError, match="was trained on all"):
        check_resumable(before, "here", config, "m", digest)
    assert replace(whole.data, exclude=exclude) == config.data
