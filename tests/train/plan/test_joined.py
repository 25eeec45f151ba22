"""The plan over several datasets: what each is promised, and what all of them are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_fakes import Shards

from shard_tools import philox
from train.data.windowed import WindowedBatches
from train.plan import Anchor, BatchSpec, EpochPlan, JoinedPlan, Member, PlanError, Windows
from train.plan.spread import most_batches, spread


@dataclass
class Sets:
    """Datasets with some speakers in common: `labels` of each dataset's own in all of them's label space."""

    spec: BatchSpec
    shares: list[int]
    own: list[np.ndarray]  # labels of each dataset's utterances, in its own label space
    labels: list[np.ndarray]
    frames: list[np.ndarray]
    speakers: int
    shards: list[Shards]

    def members(self):
        first = np.cumsum([0, *map(len, self.own)])
        shard = np.cumsum([0, *(len(each.sizes) for each in self.shards)])
        for number, own in enumerate(self.own):
            yield Member(
                len(own), int(first[number]), int(first[-1]), self.labels[number], int(shard[number])
            )

    def specs(self):
        return [
            replace(self.spec, speakers=share, dataset=number) for number, share in enumerate(self.shares)
        ]

    def by_epochs(self):
        def make(number, spec, anchor, taken):
            own = self.own[number]
            return EpochPlan(own, self.frames[number], len(self.labels[number]), spec, taken)

        makers = [partial(make, number, spec) for number, spec in enumerate(self.specs())]
        return JoinedPlan(list(self.members()), makers, self.speakers, self.spec)

    def by_windows(self, lanes, width, anchor=None):
        def make(number, spec, anchor, taken):
            windows = Windows(len(self.shards[number].sizes), lanes, width, spec.plan_seed)
            speakers = len(self.labels[number])
            return WindowedBatches(self.shards[number], speakers, spec, windows, anchor, taken)

        makers = [partial(make, number, spec) for number, spec in enumerate(self.specs())]
        return JoinedPlan(list(self.members()), makers, self.speakers, self.spec, lanes, anchor)

    @property
    def label(self):
        """The label of every utterance, numbered over all datasets."""
        return np.concatenate([names[own] for names, own in zip(self.labels, self.own, strict=True)])

    @property
    def dataset(self):
        return np.repeat(np.arange(len(self.own)), [len(own) for own in self.own])


@st.composite
def several(draw, lanes=1, smallest=8):
    """Two or three datasets whose speakers are wholly, partly or not at all the same."""
    count = draw(st.integers(2, 3))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    pool = draw(st.sampled_from([40, 70, 200]))
    shares = [lanes * draw(st.integers(1, 3)) for _ in range(count)]
    spec = BatchSpec(
        speakers=sum(shares),
        utterances_per_speaker=draw(st.integers(1, 2)),
        crop=100,
        max_utterances_per_speaker=draw(st.sampled_from([None, 6])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    apart = draw(st.booleans())
    own, labels, frames, shards = [], [], [], []
    for number in range(count):
        speakers = draw(st.integers(20, 40))
        names = rng.permutation(pool)[:speakers] + number * pool * apart
        counts = rng.integers(2, smallest, speakers)
        label = rng.permutation(np.repeat(np.arange(speakers), counts)).astype(np.int32)
        sizes = np.full(4, len(label) // 4)
        sizes[-1] += len(label) - sizes.sum()
        own.append(label)
        labels.append(names.astype(np.int64))
        frames.append(rng.integers(1, 400, len(label)))
        shards.append(Shards(label, frames[-1], sizes))
    return Sets(spec, shares, own, labels, frames, int(max(map(np.max, labels))) + 1, shards)


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("step", "epoch", "n", "utterance", "label", "start")
    )


def check_batch(sets, batch, frames):
    spec = sets.spec
    assert np.array_equal(batch.label, sets.label[batch.utterance])
    rows = batch.label.reshape(spec.speakers, spec.utterances_per_speaker)
    assert np.all(rows == rows[:, :1]), "rows of a speaker do not lie together"
    assert len(np.unique(rows[:, 0])) == spec.speakers, "a speaker is twice in a batch"
    of = sets.dataset[batch.utterance].reshape(rows.shape)
    assert np.all(of == of[:, :1]), "a group is of two datasets"
    assert np.bincount(of[:, 0], minlength=len(sets.own)).tolist() == sets.shares
    assert np.all(batch.start <= np.maximum(frames[batch.utterance] - spec.crop, 0))


@pytest.mark.slow
@given(several())
@settings(max_examples=12, deadline=None)
def test_every_dataset_goes_through_its_own_epochs(sets):
    plan = sets.by_epochs()
    lengths = [own.steps_per_epoch for own in plan.plans]
    steps = 2 * max(lengths)
    batches = [plan.batch(step) for step in range(steps)]
    frames = np.concatenate(sets.frames)
    for batch in batches:
        check_batch(sets, batch, frames)
        assert batch.epoch == plan.epoch_of(batch.step) == batch.step // lengths[0]
        assert plan.epochs_of(batch.step) == [batch.step // length for length in lengths]
    n = np.concatenate([batch.n for batch in batches[: lengths[0]]])
    assert np.array_equal(n, np.arange(len(n))), "sample numbers do not count through the epoch"
    for number, length in enumerate(lengths):
        for first in range(0, steps - length + 1, length):
            used = np.concatenate([batch.utterance for batch in batches[first : first + length]])
            used = used[sets.dataset[used] == number]
            assert len(used) == length * sets.shares[number] * sets.spec.utterances_per_speaker
            assert len(np.unique(used)) == len(used), "an utterance came twice in an epoch of its dataset"


@pytest.mark.slow
@given(several(), st.integers(0, 300))
@settings(max_examples=12, deadline=None)
def test_a_step_is_the_same_whatever_came_before(sets, step):
    walked, direct = sets.by_epochs(), sets.by_epochs()
    for other in (0, step // 3, step + 200, step):
        found = walked.batch(other)
    assert same(found, direct.batch(step))
    assert walked.origin(step) is None


@pytest.mark.slow
@given(several(lanes=2, smallest=16), st.integers(0, 40))
@settings(max_examples=20, deadline=None)
def test_windows_of_several_datasets(sets, step):
    lanes = 2
    try:
        plan = sets.by_windows(lanes, 1)
        whole = plan.batch(step)
    except PlanError:
        return  # windows too small for a batch; refused
    check_batch(sets, whole, np.concatenate(sets.frames))
    first = np.cumsum([0, *(len(each.sizes) for each in sets.shards)])
    shard = np.concatenate([each.shard + begin for each, begin in zip(sets.shards, first, strict=False)])
    at = plan.anchor(step)
    for world in (1, 2):
        plan.check_world(world)
        for rank in range(world):
            needed = set(plan.shards(at, rank, world).tolist())
            assert set(shard[whole.part(rank, world).utterance].tolist()) <= needed
    # Resumed, as a checkpoint has it.
    origin = Anchor.of(plan.origin(step).record())
    fresh = sets.by_windows(lanes, 1, origin)
    assert same(fresh.batch(step), whole)
    assert fresh.anchor(step) == at
    assert same(fresh.batch(step + 7), plan.batch(step + 7))


@pytest.mark.slow
@pytest.mark.parametrize("common", [0, 20, 40])
def test_going_on_reads_nothing_before_the_windows_it_needs(common):
    """Of an epoch each shard is in one window: none of those before the origin's is asked for."""
    sets = equal(40, 60, common, [6, 2], shards=40)
    plan = sets.by_windows(2, 1)
    earlier = [step for step in range(200, 320) if plan.origin(step) != plan.anchor(step)]
    assert bool(earlier) == (common > 0), "a later dataset's window needs the batches of its first step"
    step = earlier[0] if earlier else 200
    expected, origin = plan.batch(step), plan.origin(step)
    for each in sets.shards:
        each.asked.clear()
    assert same(sets.by_windows(2, 1, origin).batch(step), expected)
    for at, own, each in zip((origin, *origin.others), plan.plans, sets.shards, strict=True):
        assert at.epoch == 0
        before = [np.concatenate(own.windows.of(0, window)) for window in range(at.window)]
        assert before
        assert not each.asked & set(np.concatenate(before).tolist())


@pytest.mark.slow
@given(
    st.integers(1, 3),
    st.integers(8, 20),
    st.integers(0, 4),
    st.integers(1, 3),
    st.integers(0, 10**6),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_spreading_heeds_whom_the_batches_have(lanes, speakers, crowd, share, seed, again):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 8, (lanes, speakers))
    if again:
        lanes, groups = 1, rng.integers(1, 8, (1, speakers))
    batches = most_batches(groups, share)
    bits = philox.raw(0, "test", 0, int(groups.sum()))
    taken = np.stack([rng.permutation(np.append(np.arange(speakers), [-1] * 4)) for _ in range(batches + 1)])
    taken = taken[:, :crowd]
    rows = spread(groups, share, bits, 0, taken[:batches], again=again)
    if again:
        assert len(rows) == batches
    for row, others in zip(rows, taken, strict=False):
        together = np.concatenate([row.reshape(-1), others[others >= 0]])
        assert len(np.unique(together)) == len(together)
    if not again:
        for lane in range(lanes):
            used = np.bincount(rows[:, lane].reshape(-1), minlength=speakers)
            assert np.all(used <= groups[lane])
    nobody = np.full((batches, 3), -1)
    assert np.array_equal(spread(groups, share, bits, 0, nobody), spread(groups, share, bits, 0))


def equal(speakers, each, common, shares, shards=4, **options):
    """Two datasets of so many speakers with `each` utterances, of whom the first `common` are the same."""
    own = [np.repeat(np.arange(speakers), each).astype(np.int32)] * 2
    labels = [np.arange(speakers), np.arange(speakers)]
    labels[1] = np.where(labels[1] < common, labels[1], labels[1] + speakers)
    frames = [np.full(len(own[0]), 50_000)] * 2
    spec = BatchSpec(sum(shares), 1, 100, **options)
    mixed = np.random.default_rng(0).permutation(own[0])
    looked_into = [Shards(mixed, frames[0], np.full(shards, len(mixed) // shards)) for _ in range(2)]
    return Sets(spec, shares, [mixed] * 2, labels, frames, 2 * speakers, looked_into)


def test_batches_without_room_for_the_common_speakers_are_refused():
    message = r"of its 10 speakers .* 10 are in other datasets too .* have put 6 of these into a batch"
    with pytest.raises(PlanError, match=message):
        equal(10, 8, 10, [6, 6]).by_epochs()
    equal(10, 8, 10, [5, 5]).by_epochs().batch(0)
    equal(10, 8, 0, [6, 6]).by_epochs().batch(0)


def test_where_there_is_hardly_room_batches_are_full_and_distinct():
    """All ten are in each batch: whoever one dataset takes the other cannot."""
    sets = equal(10, 8, 10, [5, 5])
    plan = sets.by_epochs()
    for step in range(4 * plan.steps_per_epoch):
        check_batch(sets, plan.batch(step), np.concatenate(sets.frames))


def test_datasets_draw_independently():
    plan = equal(20, 12, 0, [4, 4]).by_epochs()
    first, second = (own.batch(3) for own in plan.plans)
    assert not np.array_equal(first.utterance, second.utterance)
    assert not np.array_equal(first.start, second.start)


def test_the_datasets_rows_are_mixed_over_the_ranks():
    sets = equal(20, 12, 0, [4, 4])
    plan = sets.by_epochs()
    halves = [sets.dataset[plan.batch(step).part(0, 2).utterance].sum() for step in range(60)]
    assert len(set(halves)) > 2
    assert abs(np.mean(halves) - 2) < 0.6  # of 4 rows; 60 draws, sigma 0.76 / sqrt(60)


def test_an_anchor_of_another_number_of_datasets_is_refused():
    with pytest.raises(PlanError, match="2 datasets, and windows to go on from of 1"):
        equal(20, 12, 0, [4, 4]).by_windows(1, 1, Anchor(0, 0, 0))
