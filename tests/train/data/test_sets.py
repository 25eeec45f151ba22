"""Several datasets in one run: batches through every access, order, world and start; and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from train.config.kept import kept_config
from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, open_training_data
from train.data.loader import open_loader
from train.life.resume import check_resumable
from train.plan import Anchor, JoinedPlan

NAMES = ("audio", "label", "n", "utterance")


@pytest.fixture(scope="module")
def urls(corpus, tmp_path_factory):
    """The corpus as WAV; and as FLAC its second half, and that with other speakers' names."""
    folder = tmp_path_factory.mktemp("sets")
    for name in ("same", "other"):
        for speaker in range(8, 16):
            target = f"s{speaker:02d}" if name == "same" else f"t{speaker:02d}"
            shutil.copytree(corpus.folder / f"wav/s{speaker:02d}", folder / "audio" / name / target)
    options = {"wav": PackOptions(utterances_per_shard=12, group=2)}
    options |= {
        name: PackOptions(format="flac", utterances_per_shard=6, group=2) for name in ("same", "other")
    }
    roots = {"wav": corpus.folder / "wav", "same": folder / "audio/same", "other": folder / "audio/other"}
    for name, given in options.items():
        pack(str(roots[name]), str(folder / name), options=given)
    return {name: str(folder / name) for name in options}


def configure(urls, names, *more):
    return parse(
        [
            "--data.url", f"[{', '.join(urls[name] for name in names)}]", "--train.steps", "1",
            "--batch.speakers", "8", "--data.crop_frames", "50", "--data.weights", "[3, 1]",
            "--data.windows.lanes", "2", "--data.windows.shards", "1", *more,
        ]
    )  # fmt: skip


def stream_of(config, rank=0, world=1, anchor=None):
    data = open_training_data(config)
    plan = build_plan(data, config, anchor)
    plan.check_world(world)
    return build_stream(config, data, plan, rank, world, on_node=world)


def fetch(stream, first=0, last=24, workers=0):
    return list(open_loader(stream, first, last, workers=workers, prefetch=2))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for name in NAMES:
            assert torch.equal(ours[name], theirs[name]), name


WINDOWS = ("--data.order", "windows")
JOINED = ("--data.same_speakers", "joined")
CASES = {
    "epoch": (("wav", "other"), ("--batch.utterances_per_speaker", "2")),
    "epoch, crops of several lengths": (("wav", "other"), ("--data.crop_frames", "[40, 60]")),
    "epoch, joined": (("wav", "same"), JOINED),
    "epoch, speeds": (("wav", "same"), (*JOINED, "--augment.speed", "[0.9]")),
    "windows": (("wav", "other"), WINDOWS),
    "windows, joined": (("wav", "same"), (*WINDOWS, *JOINED)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ranks_workers_and_a_later_start_change_nothing(corpus, urls, case):
    names, more = CASES[case]
    config = configure(urls, names, *more, "--augment.noise.url", corpus.noise)
    stream = stream_of(config)
    whole = fetch(stream)
    assert isinstance(stream.plan, JoinedPlan)
    assert stream.plan.shares == [6, 2]
    table = stream.loader.reader.catalogue
    labels = stream.plan.speakers
    assert labels == len(table.speakers) * len(stream.loader.speeds.factors)
    for batch in whole:
        speed, utterance = stream.loader.speeds.split(batch["utterance"].numpy())
        expected = table.label[utterance] + speed * len(table.speakers)
        assert np.array_equal(batch["label"].numpy(), expected)
        each = batch["label"].reshape(8, -1)[:, 0]
        assert len(each.unique()) == 8, "a speaker is twice in a batch"
        assert int((utterance >= table.first[1]).sum()) * 4 == len(utterance)

    ranks = [fetch(stream_of(config, rank, 2), workers=1 - rank) for rank in (0, 1)]
    together = [
        {name: torch.cat([part[name] for part in step]) for name in NAMES}
        for step in zip(*ranks, strict=True)
    ]
    assert_same(together, whole)
    origin = stream.plan.origin(17)
    anchor = None if origin is None else Anchor.of(origin.record())
    assert_same(fetch(stream_of(config, anchor=anchor), 17), whole[17:])


@pytest.mark.slow
@pytest.mark.parametrize("order", ["epoch", "windows"])
def test_one_cache_serves_the_shards_of_all(urls, tmp_path, order):
    more = ("--data.order", order, *JOINED)
    cached = ("--data.access", "cached", "--data.cache.folder", str(tmp_path), "--data.cache.capacity")
    expected = fetch(stream_of(configure(urls, ("wav", "same"), *more)))
    assert_same(fetch(stream_of(configure(urls, ("wav", "same"), *more, *cached, "0.01"))), expected)
    if order == "windows":
        with pytest.raises(UserError, match=r"2 lane\(s\) of 1 shards of each of 2 datasets need up to"):
            stream_of(configure(urls, ("wav", "same"), *more, *cached, "0.0001"))


@pytest.mark.slow
def test_one_dataset_in_a_list_is_that_dataset(urls):
    alone = parse(["--data.url", urls["wav"], "--train.steps", "1", "--batch.speakers", "8"])
    listed = parse(["--data.url", f"[{urls['wav']}]", "--train.steps", "1", "--batch.speakers", "8"])
    assert listed == alone


@pytest.mark.slow
def test_the_first_datasets_batches_are_those_of_its_share_alone(urls):
    """So that what a dataset brings besides does not change the first one's order."""
    joint = build_plan(*opened(configure(urls, ("wav", "other"))))
    alone = parse(["--data.url", urls["wav"], "--train.steps", "1", "--batch.speakers", "6"])
    single = build_plan(*opened(alone))
    first = joint.batch(5).utterance
    assert set(first[first < 96].tolist()) == set(single.batch(5).utterance.tolist())


def opened(config):
    return open_training_data(config), config


@pytest.mark.slow
def test_what_cannot_be_read_is_substituted_from_its_own_dataset(urls, tmp_path):
    lost = tmp_path / "lost"
    shutil.copytree(urls["same"], lost)
    (lost / "shard-000002.tar").unlink()
    given = {**urls, "lost": str(lost)}
    for order in ("epoch", "windows"):
        more = (*JOINED, "--data.order", order, "--data.on_error", "substitute")
        stream = stream_of(configure(given, ("wav", "lost"), *more))
        found, expected = fetch(stream), fetch(stream_of(configure(given, ("wav", "same"), *more)))
        table = stream.loader.reader.catalogue
        missing = table.first_shard[1] + 2
        assert sum(batch["substituted"] for batch in found) > 0
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours["label"], theirs["label"])
            before, after = theirs["utterance"].numpy(), ours["utterance"].numpy()
            gone = table.shard[before] == missing
            assert ours["substituted"] == gone.sum()
            assert np.array_equal(before[~gone], after[~gone])
            assert np.all(after[gone] >= table.first[1])


@pytest.mark.slow
def test_a_run_goes_on_with_the_same_datasets_order_and_weights(urls):
    config = configure(urls, ("wav", "other"))
    data = open_training_data(config)
    kept = {"config": kept_config(config), "manifest_digest": data.table.digest}
    check_resumable(kept, "here", config, data.table.digest)
    others = configure(urls, ("wav", "other"), "--data.weights", "[2, 1]")
    with pytest.raises(UserError, match=r"data\.weights is \[2\.0, 1\.0\], and here was trained with"):
        check_resumable(kept, "here", others, data.table.digest)
    turned = configure(urls, ("other", "wav"))
    with pytest.raises(UserError, match=r"data\.url \S*other, \S*wav has"):
        check_resumable(kept, "here", turned, open_training_data(turned).table.digest)
    # One dataset has no use for either option.
    alone = parse(["--data.url", urls["wav"], "--train.steps", "1"])
    kept = {"config": kept_config(alone), "manifest_digest": "1"}
    alone.data.same_speakers = "joined"
    check_resumable(kept, "here", alone, "1")


@pytest.mark.slow
def test_rollover_goes_on_in_each_dataset(urls, tmp_path, corpus):
    config = configure(urls, ("wav", "other"), "--batch.leftover", "rollover", "--batch.speakers", "13")
    plan = build_plan(*opened(config))
    assert plan.shares == [10, 3]
    for number, own in enumerate(plan.plans):
        size = 96 if number == 0 else 48
        used = np.concatenate([own.batch(step).utterance for step in range(20 * own.steps_per_epoch)])
        times = np.bincount(used, minlength=size)
        assert times.max() - times.min() <= 1


@pytest.mark.parametrize(
    ("names", "more", "message"),
    [
        (("wav", "same"), (), r"wav and \S*same both have speakers named s08, s09, s10 and 5 more"),
        (("wav", "other"), ("--data.weights", "[1, 3]", "--batch.speakers", "12"),
         r"other gives 9 of the 12 speakers of a batch \(data\.weights\), and it has 8"),
        (("wav", "other"), ("--batch.utterances_per_speaker", "7"),
         r"wav gives 6 of the 8 speakers of a batch .* and it has 0 with 7 utterances: lower"),
        (("wav", "same"), (*JOINED, "--data.weights", "[1, 1]", "--batch.speakers", "14"),
         r"same, which gives 7 of a batch's 14 speakers: of its 8 .* 8 are in other datasets too"),
        (("wav", "other"), (*WINDOWS, "--data.windows.lanes", "4", "--data.windows.shards", "1",
                            "--batch.speakers", "64"),
         r"wav, which gives 48 of a batch's 64 speakers: a window of 1 shards"),
    ],
)  # fmt: skip
def test_what_datasets_cannot_give_is_refused(urls, names, more, message):
    with pytest.raises(UserError, match=message):
        build_plan(*opened(configure(urls, names, *more)))
