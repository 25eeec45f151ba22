"""The same batches, bit for bit, from any number of ranks and workers, from any step, from either codec."""

from __future__ import annotations

import hashlib
import os

import pytest
import torch
from requests_made import count_requests

from shard_tools.dataset.shardwise import ShardwiseCatalogue
from shard_tools.errors import UserError
from shard_tools.storage.errors import StorageError
from train.augment.device import augment
from train.config.parsing import parse
from train.data import augmentation
from train.data.assemble import build_plan, build_stream, open_training_data
from train.data.handover import room_needed
from train.data.loader import open_loader
from train.life.failure import RankError, kind_of
from train.plan import EpochPlan


def make_stream(corpus, url, rank=0, world=1, *more):
    config = parse(
        [
            "--data.url", url, "--train.steps", "1", "--batch.speakers", "8",
            "--batch.utterances_per_speaker", "2", "--data.crop_frames", "50",
            "--augment.noise.url", corpus.noise, "--augment.reverberation.url", corpus.rooms,
            "--augment.babble.url", corpus.wav, *more,
        ]
    )  # fmt: skip
    data = open_training_data(config)
    return build_stream(config, data, build_plan(data, config), rank, world, on_node=world)


def fetch(stream, first, last, workers=0, start_method="fork"):
    return list(open_loader(stream, first, last, workers=workers, prefetch=2, start_method=start_method))


def digest(parts):
    """Of a global batch, given the ranks' parts of it."""
    names = ("audio", "label", "n", "utterance")
    joined = [torch.cat([part[name] for part in parts]) for name in names]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in joined)).hexdigest()


@pytest.fixture(scope="module")
def reference(corpus):
    stream = make_stream(corpus, corpus.wav)
    assert stream.plan.steps_per_epoch == 6
    found = fetch(stream, 0, 15)  # two epochs and a half
    assert [batch["step"] for batch in found] == list(range(15))
    assert found[0]["audio"].shape == (16, 50 * 160 + 240)
    assert found[0]["audio"].dtype == torch.float32
    return [digest([batch]) for batch in found]


@pytest.mark.slow
@pytest.mark.parametrize("category", [None, "s03"])
def test_large_sets_to_augment_with_give_the_same_without_being_held(
    corpus, reference, monkeypatch, tmp_path, category
):
    more = ["--augment.copy.folder", str(tmp_path / "copies"), "--data.cache.folder", str(tmp_path)]
    if category is not None:
        more += ["--augment.babble.category", category, "--augment.babble.clips", "[3, 5]"]
        more += ["--augment.reverberation.category", "rooms"]
        reference = [digest([batch]) for batch in fetch(make_stream(corpus, corpus.wav, 0, 1, *more), 0, 8)]
    monkeypatch.setattr(augmentation, "_HELD_WHOLE", 0)
    stream = make_stream(corpus, corpus.wav, 0, 1, *more)
    sources = stream.augmenter.sources
    assert {type(source.reader.catalogue) for source in sources.values()} == {ShardwiseCatalogue}
    assert len(sources["babble"]) == (96 if category is None else 6)
    assert [digest([batch]) for batch in fetch(stream, 0, 8, 1)] == reference[:8]


@pytest.mark.parametrize("held", [0, 2_000_000])
def test_the_manifest_of_what_is_augmented_with_is_read_once(corpus, monkeypatch, held):
    monkeypatch.setattr(augmentation, "_HELD_WHOLE", held)
    asked = count_requests(monkeypatch)
    more = ["--augment.noise.url", corpus.noise, "--augment.babble.url", corpus.flac]
    config = parse(["--data.url", corpus.wav, "--train.steps", "1", "--batch.speakers", "8", *more])
    assert augmentation.build_augmenter(config.augment, frames=8000, seed=1) is not None
    assert asked["manifest.json"] == 2  # of each of the two sets


@pytest.mark.slow
def test_forked_processes_find_their_epoch_planned(corpus, reference, monkeypatch):
    stream, here = make_stream(corpus, corpus.wav), os.getpid()
    plan_epoch = EpochPlan._plan_epoch

    def plan(own, epoch):
        assert (os.getpid() == here) == (epoch == 0), epoch
        return plan_epoch(own, epoch)

    monkeypatch.setattr(EpochPlan, "_plan_epoch", plan)
    assert [digest([batch]) for batch in fetch(stream, 3, 9, 2)] == reference[3:9]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(corpus, reference, workers):
    found = fetch(make_stream(corpus, corpus.wav), 0, 15, workers)
    assert [digest([batch]) for batch in found] == reference


@pytest.mark.slow
def test_how_they_are_started_changes_nothing(corpus, reference):
    found = fetch(make_stream(corpus, corpus.wav), 0, 15, workers=2, start_method="forkserver")
    assert [digest([batch]) for batch in found] == reference


@pytest.mark.slow
@pytest.mark.parametrize(("world", "workers"), [(2, 0), (4, 0), (8, 0), (2, 2)])
def test_ranks_change_nothing(corpus, reference, world, workers):
    parts = [fetch(make_stream(corpus, corpus.wav, rank, world), 0, 15, workers) for rank in range(world)]
    assert [digest(step) for step in zip(*parts, strict=True)] == reference


@pytest.mark.slow
@pytest.mark.parametrize("first", [1, 6, 11])
def test_starting_in_the_middle_changes_nothing(corpus, reference, first):
    found = fetch(make_stream(corpus, corpus.wav), first, 15, workers=2)
    assert [digest([batch]) for batch in found] == reference[first:]


@pytest.mark.slow
def test_flac_gives_the_same_audio(corpus, reference):
    found = fetch(make_stream(corpus, corpus.flac), 0, 15)
    assert [digest([batch]) for batch in found] == reference


@pytest.mark.slow
def test_another_seed_gives_other_batches(corpus, reference):
    found = fetch(make_stream(corpus, corpus.wav, 0, 1, "--run.seed", "1"), 0, 3)
    assert not set(reference) & {digest([batch]) for batch in found}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_vanished_is_one_clear_error(corpus, workers, tmp_path):
    import shutil

    shutil.copytree(corpus.wav, tmp_path / "shards")
    stream = make_stream(corpus, str(tmp_path / "shards"))
    (tmp_path / "shards" / "shard-000001.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000001\.tar: utterance s\d\d/\d at byte \d+") as caught:
        fetch(stream, 0, 6, workers)
    assert "Traceback" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("ahead", [0, 3])
def test_an_outage_while_a_batch_is_planned_may_pass(corpus, workers, ahead, monkeypatch):
    stream = make_stream(corpus, corpus.wav)
    stream.ahead = ahead
    plan = stream.plan.batch

    def batch(step):
        if step == 4:
            raise StorageError("s3://bucket/index: gave up after 8 tries") from TimeoutError("read timed out")
        return plan(step)

    monkeypatch.setattr(stream.plan, "batch", batch)
    with open_loader(stream, 0, 8, workers=workers, prefetch=2) as batches:
        assert [next(batches)["step"] for _ in range(4)] == [0, 1, 2, 3]
        with pytest.raises(RankError, match="gave up") as caught:
            next(batches)
    assert kind_of(caught.value) == "crash"


@pytest.mark.slow
def test_what_a_device_needs_to_augment_comes_from_workers_too(corpus):
    more = ["--augment.device", "model", "--augment.chained.weight", "1", "--augment.none.weight", "0"]
    stream = make_stream(corpus, corpus.wav, 0, 1, *more, "--augment.telephone.probability", "1")
    here, there = fetch(stream, 0, 6), fetch(stream, 0, 6, workers=2)
    for one, two in zip(here, there, strict=True):
        assert torch.equal(one["audio"], two["audio"])
        assert one["prepared"].keys() == two["prepared"].keys()
        for name, tensor in one["prepared"].items():
            assert tensor.dtype == two["prepared"][name].dtype
            assert torch.equal(tensor, two["prepared"][name])
        data = [*one["prepared"].values(), *(one[name] for name in ("audio", "label", "n", "utterance"))]
        assert room_needed(len(data), sum(tensor.nbytes for tensor in data)) <= stream.most_bytes


VARYING = [
    "--data.crop_frames",
    "[30, 60]",
    "--augment.speed",
    "[0.9]",
    "--augment.telephone.probability",
    "0.5",
]


@pytest.mark.slow
@pytest.mark.parametrize("order", [[], ["--data.order", "windows", "--data.windows.lanes", "2"]])
def test_crops_of_varying_length_are_the_same_for_any_ranks_workers_and_start(corpus, order):
    def digests(first=0, world=1, workers=0):
        streams = [make_stream(corpus, corpus.wav, rank, world, *VARYING, *order) for rank in range(world)]
        parts = [fetch(stream, first, 9, workers) for stream in streams]
        return [digest(step) for step in zip(*parts, strict=True)]

    whole = fetch(make_stream(corpus, corpus.wav, 0, 1, *VARYING, *order), 0, 9)
    lengths = [batch["audio"].shape[1] for batch in whole]
    assert len(set(lengths)) > 4
    assert all(30 * 160 + 240 <= length <= 60 * 160 + 240 and length % 160 == 80 for length in lengths)
    reference = [digest([batch]) for batch in whole]
    assert digests(world=2, workers=1) == reference
    assert digests(first=4, workers=2) == reference[4:]


@pytest.mark.slow
def test_a_device_is_given_noise_as_long_as_the_crops(corpus):
    more = ["--data.crop_frames", "[30, 60]", "--augment.device", "model", "--augment.none.weight", "0"]
    stream = make_stream(corpus, corpus.wav, 0, 1, *more)
    here = fetch(make_stream(corpus, corpus.wav, 0, 1, *more[:2], *more[4:]), 0, 5)
    for batch, expected in zip(fetch(stream, 0, 5, workers=1), here, strict=True):
        prepared = batch["prepared"]
        assert prepared["added"].shape[1] == batch["audio"].shape[1]
        found = augment(batch["audio"], prepared, torch.device("cpu"))
        torch.testing.assert_close(found, expected["audio"], rtol=0, atol=1e-5)
        data = [*prepared.values(), *(batch[name] for name in ("audio", "label", "n", "utterance"))]
        assert room_needed(len(data), sum(tensor.nbytes for tensor in data)) <= stream.most_bytes


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--augment.noise.category", "rain"], "augment.noise.category is 'rain', and .* categories noise"),
        (["--augment.babble.url", "noise", "--augment.babble.clips", "[3, 9]"], "offers 8"),
    ],
)
def test_sources_that_cannot_serve_are_named(corpus, more, message):
    more = [corpus.noise if word == "noise" else word for word in more]
    with pytest.raises(UserError, match=message):
        make_stream(corpus, corpus.wav, 0, 1, *more)
