"""Substituting what cannot be read, and reading at other speeds, with a reader over arrays."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from shard_tools.audio import to_float, wrap
from shard_tools.errors import UserError
from shard_tools.read.reader import ReadError
from train.augment.speed import Speeds, change_speed, frames_needed
from train.data.loading import ATTEMPTS, CropLoader
from train.plan import BatchSpec, EpochPlan

SPEAKERS, EACH, CROP = 6, 5, 800


class Utterances:
    """A reader whose utterance u is the constant u + 1; those in `bad` cannot be read."""

    def __init__(self, bad=(), constant=True):
        rng = np.random.default_rng(0)
        frames = rng.integers(500, 3000, SPEAKERS * EACH)
        label = np.arange(SPEAKERS * EACH, dtype=np.int32) % SPEAKERS
        names = tuple(f"s{number}" for number in range(SPEAKERS))
        self.catalogue = SimpleNamespace(label=label, frames=frames, speakers=names, others=self.others)
        if constant:
            self.audio = [np.full(count, u + 1, np.int16) for u, count in enumerate(frames)]
        else:
            self.audio = [rng.integers(-9000, 9000, count).astype(np.int16) for count in frames]
        self.bad = set(bad)

    def others(self, u, *, elsewhere):
        same = np.flatnonzero(self.catalogue.label == self.catalogue.label[u])
        return same[same != u]

    def crops(self, utterances, starts, frames):
        rows = []
        for row, (u, start) in enumerate(zip(utterances.tolist(), starts.tolist(), strict=True)):
            if u in self.bad:
                raise ReadError(f"shard-0.tar: utterance {u}: cut short", row)
            assert 0 <= start <= max(len(self.audio[u]) - frames, 0)
            rows.append(wrap(self.audio[u][start : start + frames], frames))
        return np.stack(rows)

    def rows(self, utterances, starts, frames):
        return iter(self.crops(utterances, starts, frames))


def make(bad=(), on_error="substitute", speeds=(), constant=True):
    reader = Utterances(bad, constant)
    made = Speeds.of(list(speeds), SPEAKERS * EACH, SPEAKERS)
    loader = CropLoader(reader, 3, made, on_error)
    labels, frames = made.labels(reader.catalogue.label), made.frames(reader.catalogue.frames)
    plan = EpochPlan(labels, frames, SPEAKERS * len(made.factors), BatchSpec(SPEAKERS, 1, CROP, seed=3))
    return loader, plan


def heard(loaded):
    return np.rint(loaded.audio[:, 0] * 32768).astype(int) - 1


def test_nothing_is_substituted_where_all_can_be_read():
    loader, plan = make()
    loaded = loader.load(plan.batch(0))
    assert loaded.substituted == 0
    assert np.array_equal(heard(loaded), plan.batch(0).utterance)


def test_a_substitute_is_of_the_same_speaker_and_the_rest_stays():
    bad = {0, 7, 14}
    loader, plan = make(bad)
    total = 0
    for step in range(plan.steps_per_epoch):
        batch = plan.batch(step)
        loaded = loader.load(batch)
        hit = np.isin(batch.utterance, list(bad))
        assert loaded.substituted == hit.sum()
        assert np.array_equal(heard(loaded)[~hit], batch.utterance[~hit])
        assert not set(heard(loaded)[hit].tolist()) & bad
        assert np.array_equal(heard(loaded) % SPEAKERS, batch.label)
        assert np.array_equal(loaded.batch.utterance, heard(loaded))
        total += loaded.substituted
    assert total == len(bad)


@pytest.mark.parametrize("world", [2, 3, 6])
def test_every_world_size_takes_the_same_substitutes(world):
    loader, plan = make({0, 7, 14, 21, 28, 3})
    for step in range(2 * plan.steps_per_epoch):
        whole = loader.load(plan.batch(step))
        parts = [loader.load(plan.batch(step).part(rank, world)) for rank in range(world)]
        assert np.concatenate([part.audio for part in parts]).tobytes() == whole.audio.tobytes()
        assert sum(part.substituted for part in parts) == whole.substituted


def test_failing_is_the_default_and_names_the_utterance():
    loader, plan = make({0}, on_error="fail")
    batches = [plan.batch(step) for step in range(plan.steps_per_epoch)]
    hit = next(batch for batch in batches if 0 in batch.utterance)
    with pytest.raises(ReadError, match="utterance 0: cut short"):
        loader.load(hit)


def test_a_speaker_of_whom_nothing_can_be_read_ends_the_run():
    loader, plan = make(range(0, SPEAKERS * EACH, SPEAKERS))  # all of speaker 0
    with pytest.raises(UserError, match=rf"{ATTEMPTS} other utterances of the speaker could not be read"):
        loader.load(plan.batch(0))


def test_other_speeds_are_other_speakers_and_are_played_so():
    loader, plan = make(speeds=(0.9, 1.1), constant=False)
    seen = set()
    for step in range(plan.steps_per_epoch):
        batch = plan.batch(step)
        loaded = loader.load(batch)
        number, original = np.divmod(batch.utterance, SPEAKERS * EACH)
        assert np.array_equal(batch.label, original % SPEAKERS + SPEAKERS * number)
        for row, speed in enumerate((Fraction(1), Fraction(9, 10), Fraction(11, 10))[k] for k in number):
            audio = loader.reader.audio[original[row]]
            needed = frames_needed(CROP, speed)
            start = min(int(batch.start[row] * speed), max(len(audio) - needed, 0))
            crop = to_float(wrap(audio[start : start + needed], needed))[None]
            expected = crop if speed == 1 else change_speed(crop, speed, CROP)
            assert loaded.audio[row].tobytes() == expected[0].tobytes()
            seen.add(speed)
    assert len(seen) == 3


def test_substitutes_are_played_at_the_same_speed():
    loader, plan = make({0, 7}, speeds=(0.9,))
    for step in range(plan.steps_per_epoch):
        batch = plan.batch(step)
        loaded = loader.load(batch)
        before, after = batch.utterance // (SPEAKERS * EACH), loaded.batch.utterance // (SPEAKERS * EACH)
        assert np.array_equal(before, after)
        assert not set((loaded.batch.utterance % (SPEAKERS * EACH)).tolist()) & {0, 7}
