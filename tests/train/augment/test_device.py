"""Augmentation on a device against the numpy path, on sources made of arrays."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from shard_tools.audio import to_float, wrap
from train.augment import KINDS, Augmenter, Recipe
from train.augment.device import Preparer, Responses, augment
from train.augment.recordings import Recordings

FRAMES = 8000
CPU = torch.device("cpu")
# Both paths round in float32. An FFT of 16,384 points loses about log2(points) roundings of 6e-8, the
# power of a row a few more: 1e-5 of the row's peak, 100 dB down, and 3 times finer than a step of int16.
TOLERANCE = 1e-5

devices = pytest.mark.parametrize(
    "device",
    [
        CPU,
        pytest.param(
            torch.device("cuda"),
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU"),
        ),
    ],
    ids=str,
)


class ArrayReader:
    """A reader over arrays in memory that counts whole recordings read."""

    def __init__(self, arrays):
        self.arrays = arrays
        self.read = []

    def crops(self, utterances, starts, frames):
        rows = [self.arrays[u][s : s + frames] for u, s in zip(utterances, starts, strict=True)]
        return np.stack([wrap(row, frames) for row in rows])

    def rows(self, utterances, starts, frames):
        return iter(self.crops(utterances, starts, frames))

    def utterance(self, u):
        self.read.append(u)
        return self.arrays[u]


def source(lengths, seed, scale=3000):
    rng = np.random.default_rng(seed)
    arrays = [
        (rng.standard_normal(length) * scale).clip(-32768, 32767).astype(np.int16) for length in lengths
    ]
    return Recordings(ArrayReader(arrays), np.arange(len(arrays)), np.array(lengths))


def both(kinds):
    """The numpy path and the device's first half over the same sources."""
    sources = {
        "reverberation": source([300, 4000, 9000], 1),  # one longer than the crop
        "music": source([20000, 30000], 2),
        "babble": source([9000] * 12, 3),
        "noise": source([5000, 8000, 16000], 4),  # one shorter than the crop
    }
    recipe = Recipe(
        weights=dict.fromkeys(kinds, 1.0),
        snr={"music": (5.0, 15.0), "babble": (13.0, 20.0), "noise": (0.0, 15.0)},
        clips={"babble": (3, 7)},
        recordings={kind: len(one) for kind, one in sources.items()},
    )
    options = {"frames": FRAMES, "seed": 5, "cache_bytes": 1 << 20}
    return Augmenter(recipe, sources, **options), Preparer(recipe, sources, **options)


def speech(rows, seed=0):
    samples = np.random.default_rng(seed).standard_normal((rows, FRAMES)) * 3000
    return samples.clip(-32768, 32767).astype(np.int16)


def assert_close(found, expected, tolerance=TOLERANCE):
    peak = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(found - expected) / peak).max() < tolerance


@devices
@pytest.mark.parametrize("kinds", [*((kind,) for kind in KINDS), KINDS], ids="+".join)
def test_every_treatment_is_that_of_the_numpy_path(kinds, device):
    augmenter, preparer = both(kinds)
    crops, n = speech(48), np.arange(100, 148)
    expected = to_float(crops)
    draws = augmenter(expected, 3, n)
    assert {KINDS[k] for k in draws.kind} == set(kinds)
    found = augment(torch.from_numpy(crops), preparer.prepare(3, n), device)
    assert (found.device.type, found.dtype) == (device.type, torch.float32)
    assert_close(found.cpu().numpy(), expected)
    untreated = draws.kind == KINDS.index("none")
    assert np.array_equal(found.cpu().numpy()[untreated], expected[untreated])


@devices
def test_the_same_batch_gives_the_same_bits(device):
    _, preparer = both(KINDS)
    crops, prepared = torch.from_numpy(speech(60)), preparer.prepare(0, np.arange(60))
    first = augment(crops, prepared, device)
    again = augment(crops, prepared, device)
    assert torch.equal(first, again)


@devices
def test_a_row_does_not_depend_on_the_batch_around_it(device):
    _, preparer = both(KINDS)
    crops, n = torch.from_numpy(speech(60)), np.arange(60)
    whole = augment(crops, preparer.prepare(0, n), device).cpu().numpy()
    for rows in (slice(0, 1), slice(7, 30), slice(30, 60, 2)):
        part = augment(crops[rows], preparer.prepare(0, n[rows]), device).cpu().numpy()
        assert_close(part, whole[rows])


def test_audio_that_is_float_already_is_treated_alike_and_left_alone():
    """Crops that were resampled for another speed come as float32."""
    _, preparer = both(KINDS)
    crops = torch.from_numpy(to_float(speech(30)))
    prepared, kept = preparer.prepare(0, np.arange(30)), crops.clone()
    found = augment(crops, prepared, CPU)
    assert torch.equal(found, augment(torch.from_numpy(speech(30)), prepared, CPU))
    assert torch.equal(crops, kept)


def test_silence_stays_finite():
    _, preparer = both(("babble", "chained"))
    found = augment(torch.zeros(40, FRAMES), preparer.prepare(0, np.arange(40)), CPU)
    assert bool(torch.isfinite(found).all())
    assert 0 < float(found.abs().max()) < 0.2


def test_a_silent_response_silences_instead_of_dividing_by_zero():
    rooms = Recordings(ArrayReader([np.zeros(50, np.int16)]), np.array([0]), np.array([50]))
    recipe = Recipe(weights={"reverberation": 1.0}, snr={}, clips={}, recordings={"reverberation": 1})
    preparer = Preparer(recipe, {"reverberation": rooms}, frames=FRAMES, seed=0, cache_bytes=1000)
    assert not augment(torch.from_numpy(speech(4)), preparer.prepare(0, np.arange(4)), CPU).any()


def test_without_sources_only_the_form_changes():
    recipe = Recipe(weights={"none": 1.0}, snr={}, clips={}, recordings={})
    preparer = Preparer(recipe, {}, frames=FRAMES, seed=0, cache_bytes=0)
    found = augment(torch.from_numpy(speech(5)), preparer.prepare(0, np.arange(5)), CPU)
    assert np.array_equal(found.numpy(), to_float(speech(5)))


def test_responses_stay_within_their_bytes():
    rooms = source([100, 100, 100], 0)
    responses = Responses(rooms, FRAMES, cache_bytes=400)
    for number in (0, 1, 0, 2, 0, 1):
        responses.of(np.array([number]))
    assert rooms.reader.read == [0, 1, 2, 1], "the least recently used response should have gone"


def test_what_workers_hand_over_survives_pickling_and_is_all_tensors():
    """DataLoader sends it through a queue, and pins tensors that it finds in dicts."""
    _, preparer = both(KINDS)
    prepared, crops = preparer.prepare(0, np.arange(20)), torch.from_numpy(speech(20))
    assert all(isinstance(value, torch.Tensor) for value in prepared.values())
    copy = pickle.loads(pickle.dumps(prepared))
    assert torch.equal(augment(crops, copy, CPU), augment(crops, prepared, CPU))
    rows = prepared["added_row"].split(prepared["turns"].tolist())
    assert len(rows) > 3
    assert all(len(set(turn.tolist())) == len(turn) for turn in rows)
