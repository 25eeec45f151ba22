"""The plan by windows of shards: properties over lanes, windows, worlds, P, K, caps and places to start."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_fakes import Shards

from train.data.windowed import WindowedBatches
from train.plan import BatchSpec, PlanError, Windows


@st.composite
def plans(draw):
    lanes = draw(st.sampled_from([1, 2, 3, 4]))
    width = draw(st.integers(1, 3))
    sizes = np.array(draw(st.lists(st.integers(20, 40), min_size=lanes, max_size=14)))
    speakers = draw(st.integers(12, 30))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    skew = rng.dirichlet(np.full(speakers, draw(st.sampled_from([0.5, 5.0]))))
    label = rng.choice(speakers, size=sizes.sum(), p=skew).astype(np.int32)
    shards = Shards(label, rng.integers(1, 1000, sizes.sum()), sizes)
    spec = BatchSpec(
        speakers=lanes * draw(st.integers(1, 3)),
        utterances_per_speaker=draw(st.integers(1, 2)),
        crop=500,
        max_utterances_per_speaker=draw(st.sampled_from([None, 2, 9])),
        seed=draw(st.integers(0, 2**32 - 1)),
        varying=draw(st.integers(0, 3)),
    )
    windows = Windows(len(sizes), lanes, width, spec.seed)
    try:
        plan = WindowedBatches(shards, speakers, spec, windows)
    except PlanError:
        plan = None  # too skewed for one batch: refused, which other tests look at
    return plan, shards, speakers


def steps_of(plan, epoch):
    step = 0
    while plan.epoch_of(step) < epoch:
        step += 1
    while plan.epoch_of(step) == epoch:
        yield step
        step += 1


@pytest.mark.slow
@given(plans(), st.integers(0, 2))
@settings(max_examples=120, deadline=None)
def test_an_epoch_keeps_every_promise(planned, epoch):
    plan, shards, _ = planned
    if plan is None:
        return
    spec = plan.spec
    batches = [plan.batch(step) for step in steps_of(plan, epoch)]
    if not batches:
        return
    used = np.concatenate([batch.utterance for batch in batches])
    assert len(np.unique(used)) == len(used), "an utterance came twice in an epoch"
    n = np.concatenate([batch.n for batch in batches])
    assert len(np.unique(n)) == len(n), "two samples of an epoch share their random numbers"
    for batch in batches:
        assert np.array_equal(shards.label[batch.utterance], batch.label)
        rows = batch.label.reshape(spec.speakers, spec.utterances_per_speaker)
        assert np.all(rows == rows[:, :1])
        assert len(np.unique(rows[:, 0])) == spec.speakers, "a speaker is twice in a global batch"
        assert batch.crop == spec.crop_at(batch.step)
        assert np.all(batch.start <= np.maximum(shards.frames[batch.utterance] - batch.crop, 0))
    if spec.max_utterances_per_speaker is not None:
        assert np.bincount(shards.label[used]).max() <= spec.max_utterances_per_speaker


@pytest.mark.slow
@given(plans(), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_ranks_read_their_own_lanes_shards_alone(planned, step):
    plan, shards, _ = planned
    if plan is None:
        return
    whole, at = plan.batch(step), plan.anchor(step)
    for world in range(1, plan.windows.lanes + 1):
        if plan.windows.lanes % world:
            with pytest.raises(PlanError, match=r"data\.windows\.lanes"):
                plan.check_world(world)
            continue
        plan.check_world(world)
        parts = [whole.part(rank, world) for rank in range(world)]
        assert np.array_equal(np.concatenate([part.utterance for part in parts]), whole.utterance)
        needed = [set(plan.shards(at, rank, world).tolist()) for rank in range(world)]
        for part, own in zip(parts, needed, strict=True):
            assert set(shards.shard[part.utterance].tolist()) <= own
        assert sum(map(len, needed)) == len(set.union(*needed)), "two ranks read the same shard"


@pytest.mark.slow
@given(plans(), st.integers(0, 80))
@settings(max_examples=40, deadline=None)
def test_going_on_from_a_windows_anchor_is_the_same_and_reads_nothing_before_it(planned, step):
    plan, shards, speakers = planned
    if plan is None:
        return
    expected, at = plan.batch(step), plan.anchor(step)
    if not plan.batch(at.step).utterance.size:
        return
    shards.asked.clear()
    fresh = WindowedBatches(shards, speakers, plan.spec, plan.windows, at)
    found = fresh.batch(step)
    assert found.epoch == expected.epoch
    for name in ("utterance", "start", "n", "label"):
        assert np.array_equal(getattr(found, name), getattr(expected, name))
    in_window = np.concatenate(plan.windows.of(at.epoch, at.window))
    assert shards.asked == set(in_window.tolist())
    again = WindowedBatches(shards, speakers, plan.spec, plan.windows, at)
    assert again.steps_per_epoch == plan.steps_per_epoch, "what ends and schedules hang on"
    assert np.array_equal(again.batch(step).utterance, expected.utterance)
    assert np.array_equal(fresh.batch(0).utterance, plan.batch(0).utterance), "going back must work too"


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 5), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_an_epoch_walks_over_every_shard_once(shards, lanes, width, epoch):
    windows = Windows(shards, lanes, width, 7)
    walked = [
        part for window in range(windows.per_epoch) for part in windows.of(epoch, window)
    ]  # fmt: skip
    assert sorted(np.concatenate(walked).tolist()) == list(range(shards))
    assert max(len(part) for part in walked) <= width


def test_epochs_take_the_shards_in_other_orders():
    windows = Windows(100, 4, 5, 7)
    assert not np.array_equal(np.concatenate(windows.of(0, 0)), np.concatenate(windows.of(1, 0)))


def test_grouped_packing_leaves_little_out():
    """Shards of whole fours of a speaker, shuffled, as make-shards packs them: K = 2 uses all but a few."""
    rng = np.random.default_rng(0)
    fours = rng.permutation(np.repeat(np.arange(2000), 5))
    label = np.repeat(fours, 4).astype(np.int32)
    shards = Shards(label, np.full(len(label), 50_000), np.full(100, len(label) // 100))
    plan = WindowedBatches(shards, 2000, BatchSpec(64, 2, 32_240), Windows(100, 4, 4, 0))
    account = plan.account()
    assert account.total == 6400
    assert account.used / account.total > 0.95


@pytest.mark.parametrize(
    ("speakers", "lanes", "message"),
    [
        (10, 4, r"batch\.speakers 10 is not a multiple of data\.windows\.lanes 4"),
        (8, 8, r"data\.windows\.lanes is 8, and there are 4 shards"),
        (60, 2, r"cannot fill one batch of 60 speakers"),
    ],
)
def test_batches_that_cannot_be_are_refused(speakers, lanes, message):
    shards = Shards(np.arange(40, dtype=np.int32) % 20, np.full(40, 500), np.full(4, 10))
    with pytest.raises(PlanError, match=message):
        WindowedBatches(shards, 20, BatchSpec(speakers, 1, 100), Windows(4, lanes, 1, 0))
