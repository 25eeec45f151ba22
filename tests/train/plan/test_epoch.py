"""The plan's promises as properties over speaker distributions, P, K, caps, world sizes and seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools import philox
from train.plan import BatchSpec, EpochPlan, PlanError
from train.plan.spread import batches_that_fit, spread


@st.composite
def plans(draw):
    """A plan over a few speakers, from balanced to heavily skewed, that has at least one batch."""
    counts = draw(st.lists(st.integers(1, 60), min_size=1, max_size=25))
    size = draw(st.integers(1, 4))
    cap = draw(st.one_of(st.none(), st.integers(size, 40)))
    able = sum(min(count, cap or count) >= size for count in counts)
    if not able:
        counts[0], able = size, 1
    spec = BatchSpec(
        speakers=draw(st.integers(1, able)),
        utterances_per_speaker=size,
        crop=500,
        max_utterances_per_speaker=cap,
        seed=draw(st.integers(0, 2**32 - 1)),
        varying=draw(st.integers(0, 3)),
    )
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    order = np.random.default_rng(spec.seed).permutation(len(labels))
    frames = np.random.default_rng(spec.seed + 1).integers(1, 1000, len(labels))
    return EpochPlan(labels[order], frames, len(counts), spec), labels[order], frames, np.array(counts)


@pytest.mark.slow
@given(plans(), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_epoch_keeps_every_promise(planned, epoch):
    plan, labels, frames, counts = planned
    spec = plan.spec
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    batches = [plan.batch(step) for step in steps]
    used = np.concatenate([batch.utterance for batch in batches])

    assert len(np.unique(used)) == len(used), "an utterance came twice in an epoch"
    for batch in batches:
        assert batch.epoch == epoch
        assert np.array_equal(labels[batch.utterance], batch.label)
        speakers = batch.label.reshape(spec.speakers, spec.utterances_per_speaker)
        assert np.all(speakers == speakers[:, :1]), "rows of a speaker do not lie together"
        assert len(np.unique(speakers[:, 0])) == spec.speakers, "a speaker is twice in a batch"
        assert np.all(batch.start >= 0)
        assert batch.crop in range(spec.shortest_crop, spec.crop + 1, 160)
        assert np.all(batch.start <= np.maximum(frames[batch.utterance] - batch.crop, 0))
    per_speaker = np.bincount(labels[used], minlength=len(counts))
    if spec.max_utterances_per_speaker is not None:
        assert per_speaker.max() <= spec.max_utterances_per_speaker
    n = np.concatenate([batch.n for batch in batches])
    assert np.array_equal(n, np.arange(len(n))), "sample numbers do not count through the epoch"

    account = plan.account()
    assert account.used == len(used)
    left_out = account.over_cap + account.incomplete_group + account.unplaced
    assert account.total == account.used + left_out + account.unusable
    assert account.unusable == counts[counts < spec.utterances_per_speaker].sum()


@pytest.mark.slow
@given(plans(), st.integers(0, 200))
@settings(max_examples=40, deadline=None)
def test_a_step_is_the_same_whatever_came_before(planned, step):
    plan, labels, frames, counts = planned
    fresh = EpochPlan(labels, frames, len(counts), plan.spec)
    for other in (0, step // 2, step + plan.steps_per_epoch, step):
        walked = plan.batch(other)
    direct = fresh.batch(step)
    assert np.array_equal(walked.utterance, direct.utterance)
    assert np.array_equal(walked.start, direct.start)


@pytest.mark.slow
@given(plans(), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_every_world_size_shares_out_the_same_global_batch(planned, step):
    plan = planned[0]
    whole = plan.batch(step)
    for world in range(1, plan.spec.speakers + 1):
        if plan.spec.speakers % world:
            with pytest.raises(PlanError, match=r"batch\.speakers"):
                plan.check_world(world)
            continue
        plan.check_world(world)
        parts = [whole.part(rank, world) for rank in range(world)]
        for name in ("n", "utterance", "label", "start"):
            joined = np.concatenate([getattr(part, name) for part in parts])
            assert np.array_equal(joined, getattr(whole, name))
            assert len({len(getattr(part, name)) for part in parts}) == 1


@pytest.mark.slow
@given(st.lists(st.integers(0, 30), min_size=1, max_size=20), st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_no_more_batches_could_be_filled(groups, wanted):
    """batches_that_fit against the definition, tried one by one."""
    groups = np.array(groups, dtype=np.int64)
    fits = [t for t in range(groups.sum() + 1) if np.minimum(groups, t).sum() >= wanted * t]
    assert batches_that_fit(groups, wanted) == max(fits)
    bits = philox.raw(0, "test", 0, int(groups.sum()))
    rows = spread(groups[None], wanted, bits)
    assert rows.shape == (max(fits), 1, wanted), "one lane must fill as many batches as can be"


def make_plan(counts, seed=0, speakers=8, each=1, **options):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    frames = np.full(len(labels), 50_000)
    return EpochPlan(labels, frames, len(counts), BatchSpec(speakers, each, 32_240, seed=seed, **options))


def test_epochs_and_seeds_differ():
    plan = make_plan([20] * 40)
    first = plan.batch(0).utterance
    assert not np.array_equal(first, plan.batch(plan.steps_per_epoch).utterance)
    assert not np.array_equal(first, make_plan([20] * 40, seed=1).batch(0).utterance)
    # the crop of the same utterance moves, too
    start = {}
    for step in range(plan.steps_per_epoch * 2):
        batch = plan.batch(step)
        for utterance, first_frame in zip(batch.utterance, batch.start, strict=True):
            start.setdefault(int(utterance), []).append(int(first_frame))
    assert sum(len(set(starts)) > 1 for starts in start.values()) > 0.99 * len(start)


def test_speakers_meet_evenly():
    """Every pair of equal speakers shares batches about as often as any other: no fixed neighbourhoods."""
    plan = make_plan([50] * 30, speakers=10)
    together = np.zeros((30, 30))
    for step in range(4 * plan.steps_per_epoch):
        label = plan.batch(step).label
        together[np.ix_(label, label)] += 1
    pairs = together[np.triu_indices(30, 1)]
    # 600 batches, each pair together with probability 10*9/(30*29): mean 62, binomial sigma 7.5
    assert abs(pairs.mean() - 600 * 90 / 870) < 1e-9
    assert pairs.min() > 62 - 6 * 7.5
    assert pairs.max() < 62 + 6 * 7.5


def test_skew_costs_only_what_it_must():
    """One speaker with a thousand utterances cannot be in more batches than there are."""
    plan = make_plan([1000] + [10] * 30, speakers=5)
    # 300 others fill 75 batches of 4 beside the frequent one
    assert plan.steps_per_epoch == 75
    assert all(0 in plan.batch(step).label for step in range(75))


def test_another_choice_is_left_out_every_epoch():
    plan = make_plan([7] * 10, speakers=8)
    seen = set()
    for step in range(plan.steps_per_epoch * 20):
        seen.update(plan.batch(step).utterance.tolist())
    assert len(seen) == 70


@pytest.mark.parametrize(
    ("counts", "options", "message"),
    [
        ([5] * 3, {"speakers": 8}, r"batch\.speakers asks for 8 .* has 3 such of 3"),
        ([1] * 20, {"speakers": 8, "each": 2}, r"at least 2 utterance.* has 0 such of 20"),
        (
            [9] * 20,
            {"each": 4, "max_utterances_per_speaker": 3},
            r"batch\.max_utterances_per_speaker is 3, fewer than batch\.utterances_per_speaker 4",
        ),
        ([9] * 20, {"speakers": 0}, r"batch\.speakers 0 .* at least 1"),
    ],
)
def test_batches_that_cannot_be_are_refused_with_numbers(counts, options, message):
    with pytest.raises(PlanError, match=message):
        make_plan(counts, **options)


def test_a_world_that_does_not_divide_names_batches_near_by():
    with pytest.raises(PlanError, match=r"speakers 8 cannot be shared by 3 processes: set it to 6 or 9"):
        make_plan([9] * 20).check_world(3)


@pytest.mark.slow
def test_lengths_come_equally_often_and_reach_as_far_as_an_utterance_goes():
    """A batch has one length, drawn by (seed, step); its crops start anywhere that leaves room for it."""
    spec = BatchSpec(10, 1, 32_240, None, 3, varying=4)
    plan = EpochPlan(np.arange(10, dtype=np.int32), np.full(10, 32_000), 10, spec)
    batches = [plan.batch(step) for step in range(4000)]
    lengths, counts = np.unique([batch.crop for batch in batches], return_counts=True)
    assert lengths.tolist() == list(range(32_240 - 4 * 160, 32_241, 160))
    assert np.all(np.abs(counts - 800) < 5 * np.sqrt(4000 * 0.2 * 0.8))
    for batch in batches:
        assert batch.crop == spec.crop_at(batch.step)
        assert batch.part(3, 5).crop == batch.crop
    latest = {length: max(int(b.start.max()) for b in batches if b.crop == length) for length in lengths}
    assert all(
        0.95 * max(32_000 - length, 0) <= latest[length] <= max(32_000 - length, 0) for length in lengths
    )
    other = BatchSpec(10, 1, 32_240, None, 4, varying=4)
    assert [other.crop_at(step) for step in range(50)] != [spec.crop_at(step) for step in range(50)]


def test_one_length_draws_as_before():
    """What a run of one length was given stays; so do rows whose batch of varying lengths has that length."""
    fixed, varying = (
        EpochPlan(
            np.arange(6, dtype=np.int32), np.full(6, 90_000), 6, BatchSpec(6, 1, 32_240, seed=1, varying=v)
        )
        for v in (0, 9)
    )
    same = [step for step in range(200) if varying.batch(step).crop == 32_240]
    assert 5 < len(same) < 50
    for step in same:
        one, two = fixed.batch(step), varying.batch(step)
        assert np.array_equal(one.start, two.start)
        assert np.array_equal(one.utterance, two.utterance)
