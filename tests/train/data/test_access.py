"""Three ways to the same bytes (local, ranged, cached), by epoch and by windows, any world, any start."""

from __future__ import annotations

import shutil

import pytest
import torch

from shard_tools import storage
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.errors import UserError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.storage.backends import choose
from train.config.parsing import parse
from train.data.assemble import build_plan, build_stream, open_training_data
from train.data.loader import open_loader
from train.data.windowed import WindowedBatches
from train.life.failure import RankError


def make_stream(corpus, url, *more, rank=0, world=1, anchor=None):
    config = parse(
        [
            "--data.url", url, "--train.steps", "1", "--batch.speakers", "8", "--data.crop_frames", "50",
            "--data.windows.lanes", "4", "--data.windows.shards", "1",
            "--augment.noise.url", corpus.noise, "--augment.reverberation.url", corpus.rooms, *more,
        ]
    )  # fmt: skip
    data = open_training_data(config)
    plan = build_plan(data, config, anchor)
    plan.check_world(world)
    return build_stream(config, data, plan, rank, world, on_node=world)


def fetch(stream, first=0, last=20, workers=0):
    found = list(open_loader(stream, first, last, workers=workers, prefetch=2))
    return [
        tuple(batch[name].numpy().tobytes() for name in ("audio", "label", "n", "utterance"))
        for batch in found
    ]


def joined(streams, first=0, last=20, workers=0):
    """The global batches, put together from the ranks' parts."""
    parts = [list(open_loader(stream, first, last, workers=workers, prefetch=2)) for stream in streams]
    names = ("audio", "label", "n", "utterance")
    return [
        tuple(torch.cat([part[name] for part in step]).numpy().tobytes() for name in names)
        for step in zip(*parts, strict=True)
    ]


@pytest.fixture(scope="module")
def shards(corpus, tmp_path_factory):
    """8 shards of 12 utterances."""
    folder = tmp_path_factory.mktemp("access")
    for form in ("wav", "flac"):
        pack(
            str(corpus.folder / "wav"),
            str(folder / form),
            options=PackOptions(format=form, utterances_per_shard=12, group=2),
        )
    return folder


def cached(folder, *more):
    return (
        "--data.access",
        "cached",
        "--data.cache.folder",
        str(folder),
        "--data.cache.capacity",
        "0.01",
        *more,
    )


WINDOWS = ("--data.order", "windows")


@pytest.fixture(scope="module")
def by_windows(corpus, shards):
    stream = make_stream(corpus, str(shards / "wav"), *WINDOWS)
    assert isinstance(stream.plan, WindowedBatches)
    assert stream.plan.windows.per_epoch == 2
    found = fetch(stream)
    assert stream.plan.epoch_of(19) >= 1, "the steps should go beyond an epoch"
    return found


@pytest.mark.slow
def test_cached_gives_the_same(corpus, shards, by_windows, tmp_path):
    assert fetch(make_stream(corpus, str(shards / "wav"), *cached(tmp_path))) == by_windows


@pytest.mark.slow
def test_cached_by_workers_and_ranks_gives_the_same(corpus, shards, by_windows, tmp_path):
    streams = [make_stream(corpus, str(shards / "wav"), *cached(tmp_path), rank=r, world=2) for r in (0, 1)]
    assert joined(streams, workers=2) == by_windows


@pytest.mark.slow
def test_epoch_order_is_the_same_through_the_cache(corpus, shards, tmp_path):
    order = ("--data.order", "epoch")
    local = fetch(make_stream(corpus, str(shards / "wav"), *order))
    assert fetch(make_stream(corpus, str(shards / "wav"), *cached(tmp_path, *order))) == local


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 4])
def test_ranks_change_nothing_by_windows(corpus, shards, by_windows, world):
    streams = [make_stream(corpus, str(shards / "wav"), *WINDOWS, rank=r, world=world) for r in range(world)]
    assert joined(streams) == by_windows


@pytest.mark.slow
@pytest.mark.parametrize("first", [3, 11, 17])
def test_going_on_from_an_anchor_gives_the_same(corpus, shards, by_windows, first):
    walked = make_stream(corpus, str(shards / "wav"), *WINDOWS)
    anchor = walked.plan.anchor(first)
    stream = make_stream(corpus, str(shards / "wav"), *WINDOWS, anchor=anchor)
    assert fetch(stream, first) == by_windows[first:]


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize("form", ["wav", "flac"])
@pytest.mark.parametrize("verify", ["none", "crops"])
def test_ranged_over_s3_gives_the_same(corpus, by_windows, s3_folder, form, verify):
    url = f"{s3_folder}/shards"
    options = PackOptions(format=form, utterances_per_shard=12, group=2)
    pack(str(corpus.folder / "wav"), url, options=options)
    stream = make_stream(corpus, url, *WINDOWS, "--data.verify", verify)
    assert stream.ahead > 0
    assert fetch(stream, last=8) == by_windows[:8]
    if verify == "none" and form == "wav":
        assert fetch(make_stream(corpus, url, *WINDOWS), last=8, workers=2) == by_windows[:8]


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.parametrize(("verify", "client"), [("none", "obstore"), ("crops", "obstore"), ("none", "s3fs")])
def test_a_shard_that_is_replaced_in_mid_run_ends_it(corpus, shards, s3_folder, verify, client, monkeypatch):
    """Whatever else may be substituted: the labels are of the audio that was there."""
    if client == "s3fs":
        monkeypatch.setattr(choose, "may_use", lambda: False)
    url = f"{s3_folder}/shards"
    for path in (shards / "wav").iterdir():
        storage.publish_bytes(f"{url}/{path.name}", path.read_bytes())
    options = ("--data.verify", verify, "--data.on_error", "substitute", "--data.ahead_mib", "1")
    stream = make_stream(corpus, url, *options)
    with open_loader(stream, 0, 100, workers=0, prefetch=2) as batches:
        next(batches)
        for path in (shards / "wav").glob("*.tar"):
            storage.publish_bytes(f"{url}/{path.name}", path.read_bytes()[::-1])
        with pytest.raises(RankError, match=f"{url}/.*tar: was replaced while it was being read") as caught:
            list(batches)
    assert not caught.value.passing


@pytest.mark.slow
@pytest.mark.s3
def test_cached_from_s3_reads_every_shard_once_and_nothing_again(corpus, by_windows, s3_folder, tmp_path):
    url = f"{s3_folder}/shards"
    pack(str(corpus.folder / "wav"), url, options=PackOptions(format="wav", utterances_per_shard=12, group=2))
    stream = make_stream(corpus, url, *cached(tmp_path, "--data.verify", "shards"))
    assert fetch(stream) == by_windows
    cache = stream.loader.reader.source.cache
    total = sum(stream.loader.reader.catalogue.shard_sizes)
    assert total <= cache.fetched_bytes <= 1.01 * total
    before = cache.requests
    fetch(stream, 20, 30)
    assert cache.requests == before, "an epoch that fits the cache went to the network again"


@pytest.mark.slow
def test_a_cache_too_small_for_two_windows_is_refused(corpus, shards, tmp_path):
    small = cached(tmp_path)
    small = (*small[:-1], "0.0001")
    with pytest.raises(UserError, match=r"data\.cache\.capacity is 0\.0001 GiB, and this node's 4 lane"):
        make_stream(corpus, str(shards / "wav"), *small)


@pytest.mark.slow
@pytest.mark.parametrize("access", ["direct", "cached"])
def test_a_shard_that_vanished_is_named_or_substituted(corpus, shards, tmp_path, access):
    url = tmp_path / "shards"
    shutil.copytree(shards / "wav", url)
    (url / "shard-000002.tar").unlink()
    more = cached(tmp_path / "cache") if access == "cached" else WINDOWS
    with pytest.raises(UserError, match=r"shard-000002\.tar: utterance s\d\d/\d at byte \d+"):
        fetch(make_stream(corpus, str(url), *more))

    stream = make_stream(corpus, str(url), *more, "--data.on_error", "substitute")
    whole = make_stream(corpus, str(shards / "wav"), *WINDOWS)
    found = list(open_loader(stream, 0, 8, workers=0, prefetch=2))
    expected = list(open_loader(whole, 0, 8, workers=0, prefetch=2))
    lost = torch.from_numpy(open_catalogue(str(shards / "wav")).shard == 2)
    for ours, theirs in zip(found, expected, strict=True):
        gone = lost[theirs["utterance"]]
        assert ours["substituted"] == int(gone.sum())
        assert torch.equal(ours["audio"][~gone], theirs["audio"][~gone])
        assert torch.equal(ours["label"], theirs["label"])
        assert not lost[ours["utterance"]].any()
    assert sum(batch["substituted"] for batch in found) > 0
