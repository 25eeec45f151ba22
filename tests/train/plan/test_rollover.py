"""What an epoch leaves out comes first in the next: against a simulation that goes from epoch to epoch."""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.pack.packing import PackOptions, pack
from train.augment.speed import Speeds
from train.config.parsing import parse
from train.data.assemble import build_plan, open_training_data
from train.describe import _use
from train.plan import BatchSpec, EpochPlan
from train.plan.rollover import EvenOrder
from train.plan.spread import spread


def make(counts, spec, shuffle=0):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    labels = labels[np.random.default_rng(shuffle).permutation(len(labels))]
    return EpochPlan(labels, np.full(len(labels), 40_000), len(counts), spec), labels


@st.composite
def cases(draw):
    """Counts of utterances a speaker, from balanced to heavily skewed, and a spec with at least one batch."""
    few = st.integers(1, 25)
    counts = draw(st.lists(st.one_of(few, few, st.integers(1, 120)), min_size=1, max_size=20))
    size = draw(st.integers(1, 4))
    cap = draw(st.one_of(st.none(), st.integers(size, 40)))
    able = sum(count >= size for count in counts)
    if not able:
        counts[0], able = size, 1
    spec = BatchSpec(draw(st.integers(1, able)), size, 100, cap, draw(st.integers(0, 2**32 - 1)), "rollover")
    return counts, spec


def batches_of(plan, epoch):
    return [plan.batch(epoch * plan.steps_per_epoch + step) for step in range(plan.steps_per_epoch)]


def used_by(plan, epoch):
    return np.concatenate([batch.utterance for batch in batches_of(plan, epoch)])


@pytest.mark.slow
@given(cases(), st.sampled_from([0, 1, 2, 7, 10**6, 2**32 - 2]))
@settings(max_examples=60, deadline=None)
def test_every_epoch_keeps_the_promises_of_a_plan(case, epoch):
    counts, spec = case
    plan, labels = make(counts, spec)
    dropping, _ = make(counts, replace(spec, leftover="drop"))
    assert plan.steps_per_epoch == dropping.steps_per_epoch, "as many batches as without it"
    assert plan.account() == dropping.account()
    for batch in batches_of(plan, epoch):
        assert np.array_equal(labels[batch.utterance], batch.label)
        speakers = batch.label.reshape(spec.speakers, spec.utterances_per_speaker)
        assert np.all(speakers == speakers[:, :1])
        assert len(np.unique(speakers[:, 0])) == spec.speakers, "a speaker is twice in a batch"
    used = used_by(plan, epoch)
    assert len(np.unique(used)) == len(used) == plan.account().used, "an utterance came twice in an epoch"
    if spec.max_utterances_per_speaker is not None:
        assert np.bincount(labels[used]).max() <= spec.max_utterances_per_speaker


@pytest.mark.slow
@given(cases(), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_over_the_epochs_a_speakers_utterances_are_used_equally_often(case, epochs):
    counts, spec = case
    plan, labels = make(counts, spec)
    times = np.zeros(len(labels), dtype=int)
    before = None
    for epoch in range(epochs):
        used = np.isin(np.arange(len(labels)), used_by(plan, epoch))
        times += used
        for speaker, count in enumerate(counts):
            own = labels == speaker
            assert times[own].max() - times[own].min() <= 1
            if epoch > 0:  # no group is left out twice running
                assert (times[own].max() > 0) == (count >= spec.utterances_per_speaker)
            if before is not None:
                waiting, taken = own & ~before, used & own
                if waiting.sum() <= taken.sum():
                    assert np.all(taken[waiting]), "what was left out did not come next"
                else:
                    assert np.all(waiting[taken]), "something came before what was left out"
        before = used


def slow_order(turns, seed):
    """The even order as a list of speakers, one turn after another, down the tree of EvenOrder."""
    leaves = EvenOrder(np.array(turns), seed)._levels[0].tolist()
    speaker = EvenOrder(np.array(turns), seed)._speaker.tolist()

    def walk(first, width):
        """The order of the leaves from `first`: the two halves' orders, merged by their weights."""
        weight = sum(leaves[first : first + width])
        if width == 1:
            return [first] * weight
        half = width // 2
        sides = [iter(walk(first, half)), iter(walk(first + half, half))]
        left, merged = sum(leaves[first : first + half]), []
        taken = 0
        for m in range(1, weight + 1):
            now = (m * left + weight // 2) // weight
            assert now - taken in (0, 1)
            merged.append(next(sides[0 if now > taken else 1]))
            taken = now
        return merged

    return [speaker[leaf] for leaf in walk(0, len(leaves))]


@pytest.mark.slow
@given(cases(), st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_the_closed_form_is_what_going_from_epoch_to_epoch_gives(case, epochs):
    counts, spec = case
    plan, labels = make(counts, spec)
    rollover, size = plan._rollover, spec.utterances_per_speaker
    able = np.minimum(plan._groups, plan.steps_per_epoch)
    waiting = deque(slow_order(able, spec.seed))
    surplus = len(waiting) - plan.steps_per_epoch * spec.speakers
    queues = [
        deque(sorted(np.flatnonzero(labels == speaker), key=lambda row: rollover._turn[row]))
        for speaker in range(len(counts))
    ]
    given_so_far = np.zeros(len(counts), dtype=np.int64)
    for epoch in range(epochs):
        out = [waiting[turn] for turn in range(surplus)]
        waiting.rotate(-surplus)
        groups = able - np.bincount(np.array(out, dtype=np.int64), minlength=len(counts))
        assert np.array_equal(rollover.groups_before(epoch), given_so_far)
        assert np.array_equal(rollover.groups(epoch), groups)
        assert groups.sum() == plan.steps_per_epoch * spec.speakers
        given_so_far += groups
        expected = []
        for queue, number in zip(queues, groups, strict=True):
            expected += [queue[turn] for turn in range(number * size)]
            queue.rotate(-int(number * size))
        assert np.array_equal(rollover.utterances(epoch), np.sort(np.array(expected)))
        assert np.array_equal(np.sort(used_by(plan, epoch)), np.sort(np.array(expected)))


@pytest.mark.slow
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=25).filter(any),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=80, deadline=None)
def test_the_even_order_gives_every_speaker_its_turns_evenly(turns, seed):
    turns = np.array(turns, dtype=np.int64)
    order, total = EvenOrder(turns, seed), int(turns.sum())
    first = np.array([order.among_first(m) for m in range(total + 1)])
    assert np.array_equal(first.sum(axis=1), np.arange(total + 1))
    assert np.isin(np.diff(first, axis=0), (0, 1)).all(), "not the beginnings of one order"
    assert np.array_equal(first[-1], turns)
    # Within one turn when speakers are many; a few very unequal ones may be half a turn more off.
    assert np.abs(first - np.arange(total + 1)[:, None] * turns / total).max() < 2


def test_speakers_groups_stay_proportional_over_thousands_of_epochs():
    counts = np.maximum(np.random.default_rng(0).lognormal(0, 0.6, 1000) * 20, 1).astype(np.int64)
    rollover = make(counts, BatchSpec(128, 2, 100, None, 3, "rollover"))[0]._rollover
    assert rollover._out > 0
    share = 1 - rollover._out / rollover._all
    for epoch in range(0, 3000, 7):
        assert np.abs(rollover.groups_before(epoch) - epoch * share * rollover._able).max() <= 1


@pytest.mark.slow
@given(cases(), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_all_groups_that_an_epoch_is_offered_are_placed(case, epoch):
    counts, spec = case
    plan, _ = make(counts, spec)
    groups = plan._rollover.groups(epoch)
    assert groups.min() >= 0
    rows = spread(groups[None], spec.speakers, np.zeros(int(groups.sum()), dtype=np.uint64))
    assert np.array_equal(np.bincount(rows.reshape(-1), minlength=len(counts)), groups)


@pytest.mark.slow
@given(cases(), st.integers(0, 300))
@settings(max_examples=30, deadline=None)
def test_a_step_is_the_same_whatever_came_before_and_however_it_is_shared_out(case, step):
    counts, spec = case
    plan, _ = make(counts, spec)
    for other in (0, step // 2, step + plan.steps_per_epoch, step):
        walked = plan.batch(other)
    direct = make(counts, spec)[0].batch(step)
    assert np.array_equal(walked.utterance, direct.utterance)
    assert np.array_equal(walked.start, direct.start)
    for world in (w for w in range(1, spec.speakers + 1) if spec.speakers % w == 0):
        parts = [direct.part(rank, world).utterance for rank in range(world)]
        assert np.array_equal(np.concatenate(parts), direct.utterance)


def test_the_order_and_the_company_within_an_epoch_are_new_every_time():
    """All utterances fit, so the same ones are used each epoch: only the epoch's own randomness is left."""
    plan, _ = make([8] * 10, BatchSpec(10, 2, 100, None, 1, "rollover"))
    pairs = []
    for epoch in range(6):
        used = used_by(plan, epoch)
        assert np.array_equal(np.sort(used), np.arange(80))
        pairs.append({tuple(sorted(pair)) for pair in used.reshape(-1, 2).tolist()})
    for epoch in range(1, 6):
        # a pair comes again with probability 1/7: 40 pairs, about 6 of them
        assert len(pairs[0] & pairs[epoch]) < 20


def test_seeds_leave_out_others():
    left_out = set()
    for seed in range(20):
        plan, labels = make([7] * 11, BatchSpec(10, 1, 100, None, seed, "rollover"))
        left_out |= set(np.setdiff1d(np.arange(len(labels)), used_by(plan, 0)).tolist())
    assert len(left_out) > 40


@pytest.mark.slow
def test_speakers_made_by_speed_roll_over_each_by_itself(corpus, tmp_path):
    """The plan that a configuration asks for, over real shards."""
    pack(str(corpus.folder / "wav"), str(tmp_path), options=PackOptions(utterances_per_shard=30))
    config = parse(
        [
            "--data.url", str(tmp_path), "--train.steps", "1", "--augment.speed", "[0.9, 1.1]",
            "--batch.speakers", "5", "--batch.utterances_per_speaker", "2", "--batch.leftover", "rollover",
            "--batch.max_utterances_per_speaker", "5",
        ]
    )  # fmt: skip
    data = open_training_data(config)
    catalogue, plan = data.table, build_plan(data, config)
    speeds = Speeds.of([0.9, 1.1], len(catalogue), len(catalogue.speakers))
    virtual = speeds.labels(catalogue.label)
    times = np.zeros(len(virtual), dtype=int)
    for epoch in range(9):
        for batch in batches_of(plan, epoch):
            number, original = speeds.split(batch.utterance)
            assert np.array_equal(batch.label, catalogue.label[original] + len(catalogue.speakers) * number)
            times[batch.utterance] += 1
    for speaker in range(plan.speakers):
        own = times[virtual == speaker]
        assert own.min() > 0
        assert own.max() - own.min() <= 1


def test_dropping_is_the_default_and_chooses_as_it_always_did():
    """The digest was taken before there was anything else."""
    counts = [3, 7, 11, 20, 5, 9, 40, 1, 2, 13] * 4
    digest = hashlib.sha256()
    for speakers, each, cap in [(8, 1, None), (6, 2, 15), (12, 3, None)]:
        plan, _ = make(counts, BatchSpec(speakers, each, 32_240, cap, seed=9), shuffle=5)
        for step in range(3 * plan.steps_per_epoch):
            batch = plan.batch(step)
            digest.update(batch.utterance.astype("<i8").tobytes() + batch.start.astype("<i8").tobytes())
    assert digest.hexdigest() == "ebe8bc7cb652b86067b9d1142a7943740e4867caa2e3371f215b5584554fd606"


@pytest.mark.parametrize(
    ("leftover", "rest"), [("drop", "each leaves out another 7"), ("rollover", "7 wait for the next epoch")]
)
def test_the_log_says_what_becomes_of_the_rest(leftover, rest):
    config = parse(["--data.url", "x", "--train.steps", "1"])
    plan, _ = make([8, 5, 5, 5, 1], BatchSpec(4, 2, 100, 6, 0, leftover))
    assert _use(config, plan) == (
        f"an epoch: 2 steps of 4 speakers x 2 utterances use 16 of 24; {rest} (2 over "
        "max_utterances_per_speaker, 3 too few left for a group, 2 not fitting a batch); "
        "1 are of speakers with too few for a group"
    )
