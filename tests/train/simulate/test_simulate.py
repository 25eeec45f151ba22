"""The simulator: bytes, requests and cache by hand on tiny datasets; mixing against known shuffles."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.read.ranged import RangedSource
from shard_tools.read.reader import Reader
from train.plan import BatchSpec, EpochPlan, PlanError, Windows
from train.simulate.__main__ import main
from train.simulate.dataset import Dataset, open_dataset, pcm_layout, synthetic
from train.simulate.mixing import apart, other_meetings, speakers_in_block
from train.simulate.reading import Impossible, Job, brought, cached, crop_ranges, over_cap, ranged
from train.simulate.scale import OnDemand, planning

MIB = 2**20


def tiny(shard_bytes, per_shard=8, speakers=4):
    """Shards of eight utterances of 1,000 frames: two of each of four speakers."""
    shards = len(shard_bytes)
    count = shards * per_shard
    return Dataset(
        name="tiny",
        speakers=speakers,
        label=(np.arange(count) % speakers).astype(np.int32),
        frames=np.full(count, 1000),
        shard=np.repeat(np.arange(shards), per_shard).astype(np.int32),
        begin=np.tile(np.arange(per_shard) * 3072 + 556, shards),
        length=np.zeros(count, np.int64),
        shard_bytes=np.array(shard_bytes),
    )


def job(nodes=1, ranks=1, verify=False, **spec):
    given = {"speakers": 4, "utterances_per_speaker": 1, "crop": 500} | spec
    return Job(nodes, ranks, BatchSpec(**given), verify)


@pytest.mark.parametrize(
    ("begin", "start", "frames", "flac", "plain", "whole"),
    [
        (1000, 10, 100, 0, 120, 8192),  # bytes 1,020 to 1,140 of block 0
        (8000, 50, 200, 0, 120, 16384),  # 8,100 to 8,220: blocks 0 and 1
        (8192, 0, 60, 0, 120, 8192),  # begins with a block
        (17000, 0, 60, 0, 120, 20000 - 16384),  # in the shard's last, shorter block
        (1000, 0, 30, 0, 60, 8192),  # shorter than the crop
        (100, 40, 100, 9000, 9000, 16384),  # FLAC: the member, wherever the crop starts
    ],
)
def test_bytes_of_a_crop(begin, start, frames, flac, plain, whole):
    dataset = tiny([20000])
    dataset.begin[3], dataset.frames[3], dataset.length[3] = begin, frames, flac
    for verify, expected in ((False, plain), (True, whole)):
        first, last = crop_ranges(dataset, np.array([[3]]), np.array([[start]]), 60, verify)
        assert (last - first).tolist() == [[expected]]


def test_ranged_reading_by_hand():
    """32 utterances in batches of 4 speakers: 8 steps, 4 rows each, two nodes; a row for each process."""
    reading = ranged(tiny([30000] * 4), job(nodes=2, ranks=2))
    assert reading.steps == 8
    assert reading.requests == 8 * 2
    assert reading.bytes == 8 * 2 * 500 * 2
    assert reading.cache_bytes == 0
    assert reading.left_out == 0


@pytest.mark.slow
@pytest.mark.parametrize("form", ["wav", "flac"])
@pytest.mark.parametrize("verify", ["none", "crops"])
def test_ranged_reading_is_what_a_reader_counts(corpus, form, verify):
    """Neighbours in a shard are joined in one request, so that there are fewer of them than crops."""
    url = getattr(corpus, form)
    spec = BatchSpec(speakers=16, utterances_per_speaker=3, crop=8000, varying=20)
    catalogue = open_catalogue(url, block_crcs=True)
    source = RangedSource(catalogue.shard_urls, catalogue.shard_sizes)
    reader, plan = Reader(catalogue, source, verify), EpochPlan(catalogue.label, catalogue.frames, 16, spec)
    for step in range(plan.steps_per_epoch):
        for rank in range(2):
            part = plan.batch(step).part(rank, 2)
            reader.crops(part.utterance, part.start, part.crop)
    reading = ranged(open_dataset(url), Job(1, 2, spec, verify == "crops"))
    assert (reading.requests, reading.bytes) == (source.requests, source.fetched_bytes)
    assert reading.requests < 96


def test_cached_reading_by_hand():
    """40 MiB is three parts of 16 MiB; each of two nodes brings two of the four shards, one at a time."""
    dataset = tiny([40 * MIB] * 4)
    reading = cached(dataset, job(nodes=2), lanes=2, width=1)
    assert (reading.bytes, reading.requests, reading.cache_bytes) == (80 * MIB, 6, 80 * MIB)
    assert reading.steps == 8
    whole = cached(dataset, job(nodes=2), lanes=2, width=2)
    assert (whole.bytes, whole.requests, whole.cache_bytes) == (80 * MIB, 6, 160 * MIB)


def test_a_node_brings_its_lanes_shards_and_the_busiest_node_counts():
    sizes = [1 * MIB, 20 * MIB, 300 * MIB, 4 * MIB]
    dataset, windows = tiny(sizes), Windows(4, 2, 1, 0)
    lanes = [windows.of(0, window) for window in range(2)]
    own = [sum(sizes[shards[node][0]] for shards in lanes) for node in range(2)]
    fetched, requests = brought(dataset, windows, nodes=2)
    assert fetched.tolist() == own
    assert requests.sum() == 1 + 2 + 19 + 1
    reading = cached(dataset, job(nodes=2), lanes=2, width=1)
    assert reading.bytes == max(own) > 300 * MIB
    assert reading.cache_bytes == 600 * MIB, "another epoch may put the largest shard anywhere"


def test_left_out_does_not_count_the_cap():
    dataset = tiny([30000] * 4)
    capped = job(max_utterances_per_speaker=5)
    assert over_cap(dataset, capped.spec) == 4 * 3
    assert ranged(dataset, capped).left_out == 0
    threes = ranged(dataset, job(utterances_per_speaker=3))  # 8 = 2 groups of three and 2 over
    assert threes.left_out == pytest.approx(2 / 8)


def test_what_is_excluded_is_neither_read_nor_counted(capsys):
    whole = tiny([30000] * 4)
    dataset = replace(whole, excluded=np.array([0, 4, 9, 30]))  # two of speaker 0, one of 1, one of 2
    for reading in (ranged(dataset, job()), cached(dataset, job(), lanes=1, width=4)):
        assert reading.steps == 6  # of which each has all four speakers
        assert reading.left_out == pytest.approx(4 / 28)
    assert over_cap(dataset, job(max_utterances_per_speaker=6).spec) == 0 + 1 + 1 + 2
    found = dataset.window([np.arange(4)])
    assert found.number.tolist() == dataset.left.tolist()
    assert found.total[found.label == 0].tolist() == [6] * 6
    assert found.turn[found.label == 0].tolist() == list(range(6))
    assert main(["--synthetic", "100", "10", "--exclude", "drop.txt"]) == 1
    assert "--exclude names utterances of a dataset" in capsys.readouterr().err


def test_windows_that_fill_no_batch_are_said_and_wrong_lanes_are_refused():
    dataset = tiny([30000] * 4, per_shard=2)  # two speakers a shard
    assert isinstance(cached(dataset, job(), lanes=1, width=1), Impossible)
    assert cached(dataset, job(), lanes=1, width=4).steps == 2
    with pytest.raises(PlanError, match="not a multiple"):
        cached(dataset, job(), lanes=3, width=1)
    with pytest.raises(PlanError, match="cannot be shared by 2 processes"):
        cached(dataset, job(nodes=2), lanes=1, width=4)


def test_apart_is_one_for_a_full_shuffle_and_almost_nothing_in_shard_order():
    shard = np.repeat(np.arange(40), 500).astype(np.int32)
    order = np.arange(len(shard))
    assert apart(order, shard) == pytest.approx(3 / 20001)
    shuffled = np.random.default_rng(0).permutation(order)
    assert apart(shuffled, shard) == pytest.approx(1, abs=0.02)
    # windows of ten shards, shuffled within: a quarter of the epoch
    windows = np.concatenate([np.random.default_rng(1).permutation(part) for part in order.reshape(4, -1)])
    assert apart(windows, shard) == pytest.approx(0.25, abs=0.01)


def test_speakers_in_blocks_of_a_thousand():
    label = np.concatenate([np.zeros(1000), np.arange(1000), np.full(999, 7)]).astype(np.int64)
    assert speakers_in_block(label) == (1 + 1000) / 2
    assert speakers_in_block(np.array([3, 3, 4])) == 2


def test_other_meetings_by_hand():
    # speakers 0 and 1 meet twice, 0 and 2 once: one more meeting for two encounters out of three
    assert other_meetings(np.array([[0, 1], [1, 0], [0, 2]])) == pytest.approx(2 / 3)
    assert other_meetings(np.array([[5], [6]])) is None


@pytest.mark.slow
def test_other_meetings_of_many_speakers_are_those_of_a_sample():
    """Batches of 50 out of 2,500 at random: a pair is in (50/2,500)**2 of them, 1.6 of 4,000."""
    rng = np.random.default_rng(0)
    batches = np.stack([rng.choice(2500, 50, replace=False) for _ in range(4000)])
    assert other_meetings(batches) == pytest.approx(4000 * 50 * 49 / 2500 / 2499, rel=0.02)


@pytest.mark.slow
def test_small_windows_of_coarse_groups_mix_less():
    dataset = synthetic(16_000, 200, seconds=3, utterances_per_shard=400, group=40, seed=1)
    small, large = (cached(dataset, job(speakers=20), lanes=1, width=width) for width in (4, 20))
    shuffled = ranged(dataset, job(speakers=20)).mixing
    assert small.mixing.apart < large.mixing.apart < shuffled.apart
    assert small.mixing.speakers < large.mixing.speakers < shuffled.speakers
    assert small.mixing.meetings > 1.2 * shuffled.meetings
    assert small.left_out > large.left_out


def test_synthetic_shards_are_as_make_shards_packs_them(corpus):
    """The layout of real shards follows from their utterances' frames by the same formula."""
    real = open_dataset(corpus.wav)
    begin, shard_bytes = pcm_layout(real.frames, real.shard.astype(np.int64))
    assert np.array_equal(begin, real.begin)
    assert np.array_equal(shard_bytes, real.shard_bytes)

    made = synthetic(5000, 60, seconds=8, utterances_per_shard=500, group=4, seed=0)
    counts = np.bincount(made.label, minlength=60)
    assert (len(made), len(made.shard_bytes)) == (5000, 10)
    assert counts.min() >= 1
    assert counts.max() > 2 * np.median(counts), "not skewed"
    assert made.frames.mean() == pytest.approx(8 * 16000, rel=0.001)


def test_the_dataset_is_the_catalogues(corpus):
    catalogue, dataset = open_catalogue(corpus.flac), open_dataset(corpus.flac)
    assert np.array_equal(dataset.length, catalogue.size)
    assert np.array_equal(dataset.begin, catalogue.offset)
    found = dataset.window([np.array([2]), np.array([0])])
    each = [np.flatnonzero(catalogue.shard == shard) for shard in (2, 0)]
    assert found.number.tolist() == np.concatenate(each).tolist()
    assert found.lane.tolist() == [0] * len(each[0]) + [1] * len(each[1])
    assert np.array_equal(found.label, catalogue.label[found.number])


def test_utterances_on_demand_are_consistent():
    columns = OnDemand(shards=6, per_shard=40, speakers=9)
    found = columns.window([np.arange(4), np.arange(4, 6)])
    assert found.number.tolist() == list(range(240))
    assert found.lane.tolist() == [0] * 160 + [1] * 80
    assert found.length.min() >= 64_000
    for speaker in range(9):
        own = found.label == speaker
        assert sorted(found.turn[own].tolist()) == list(range(own.sum()))
        assert set(found.total[own].tolist()) == {own.sum()}


def test_planning_looks_at_the_windows_it_walks_through_and_at_nothing_else():
    spec = BatchSpec(speakers=16, utterances_per_speaker=2, crop=1000)
    small, large = (planning(count, 1000, 100, 4, 2, spec) for count in (10_000, 1_000_000))
    assert (small.shards, large.shards) == (100, 10_000)
    # five windows and the first, and the one whose first step is asked for last: 8 shards each
    assert large.shards_asked == small.shards_asked <= 7 * 8


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_the_command_prints_a_table_and_the_same_as_json(corpus, capsys, form):
    arguments = [getattr(corpus, form), "--speakers", "4", "--crop-frames", "40", "--window", "2"]
    assert main(arguments) == 0
    table = capsys.readouterr().out
    assert "96 utterances of 16 speakers, 4 shards" in table
    assert main([*arguments, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    first, *others = document["readings"]
    assert (first["way"], first["steps"]) == ("ranged", 24)
    assert [reading["window"] for reading in others] == [1, 2, 4]
    assert all(reading["bytes"] == document["data"]["bytes"] for reading in others)
    assert f"{first['requests']:,}" in table


def test_the_command_measures_planning(capsys):
    arguments = ["--synthetic", "200000", "1000", "--scale", "--speakers", "32", "--window", "4"]
    assert main(arguments) == 0
    assert "200,000 utterances in 200 shards; 4,000 a window" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either the URL of a dataset or --synthetic"),
        (["somewhere", "--synthetic", "10", "2"], "give either"),
        (["somewhere", "--scale"], "--scale makes its utterances up"),
        (["/nowhere/at/all"], "manifest.json: does not exist"),
        (["--synthetic", "10", "20"], "at least one speaker, and an utterance each"),
        (["--synthetic", "2000", "100", "--speakers", "200"], "batch.speakers asks for 200 speakers"),
        (["--synthetic", "2000", "100", "--speakers", "10", "--lanes", "3"], "not a multiple"),
        (
            ["--synthetic", "2000", "100", "--speakers", "10", "--nodes", "3"],
            "cannot be shared by 3 processes: set it to 9 or 12",
        ),
        (
            ["--synthetic", "2000", "100", "--shortest-crop-frames", "300"],
            "--shortest-crop-frames is 300, more than --crop-frames 200",
        ),
    ],
)
def test_what_cannot_be_is_one_line(arguments, message, capsys):
    assert main(arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nodes", "0"], "argument --nodes: 0 is not from 1 to 65536"),
        (["--step-seconds", "0"], "argument --step-seconds: '0' is not a number from 0.001 to 86400"),
        (["--step-seconds", "nan"], "argument --step-seconds: 'nan' is not a number from 0.001 to 86400"),
        (["--synthetic", "9" * 50, "5"], "argument --synthetic: 999999999999999999999999999999999999999… is"),
        (["--crop-frames", "1e3"], "argument --crop-frames: '1e3' is not a whole number from 1 to 10000"),
    ],
)
def test_bounds_are_those_of_the_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--synthetic", "2000", "100", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_fewer_shards_than_lanes_leave_the_shuffle_of_the_epoch(capsys):
    assert main(["--synthetic", "900", "100", "--speakers", "8", "--nodes", "4"]) == 0
    out = capsys.readouterr().out
    assert "900 utterances of 100 speakers, 1 shard, " in out
    assert "window 1: data.windows.lanes is 4, and there is 1 shard: lower it" in out
    assert next(line.split()[:2] for line in out.splitlines() if " epoch" in line) == ["ranged", "epoch"]
