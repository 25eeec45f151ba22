from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.embed import SHORTEST, cut, embed
from eval.utterances import open_utterances
from models.parts.frontend import crop_length
from shard_tools.errors import UserError

CPU = torch.device("cpu")


def options(**changes):
    plain = {"crops": 0, "crop_feature_frames": 30, "device": CPU, "batch_utterances": 4, "threads": 2}
    return plain | changes


def ramp(frames):
    return np.arange(frames, dtype=np.int16)


def test_crops_are_spread_evenly_from_end_to_end():
    np.testing.assert_array_equal(cut(ramp(10), 3, 4), [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]])
    np.testing.assert_array_equal(cut(ramp(10), 4, 5)[:, 0], [0, 1, 3, 5])  # 0, 5/3, 10/3, 5: truncated
    np.testing.assert_array_equal(cut(ramp(10), 1, 4), [[0, 1, 2, 3]])


def test_short_utterances_are_repeated_to_one_frame_more_than_the_crop():
    np.testing.assert_array_equal(cut(ramp(3), 2, 5), [[0, 1, 2, 0, 1], [1, 2, 0, 1, 2]])
    np.testing.assert_array_equal(cut(ramp(3), 3, 5)[:, 0], [0, 0, 1])  # 0.5 is truncated
    np.testing.assert_array_equal(cut(ramp(5), 2, 5)[:, 0], [0, 1])  # exactly as long: repeated too
    np.testing.assert_array_equal(cut(ramp(6), 2, 5)[:, 0], [0, 1])


@pytest.mark.parametrize("frames", [7, 99, 100, 101, 350])
@pytest.mark.parametrize("crops", [1, 2, 10])
def test_crops_against_the_definition_in_floating_point(frames, crops):
    samples = np.random.default_rng(frames).integers(-999, 999, frames).astype(np.int16)
    padded = np.pad(samples, (0, 101 - frames), "wrap") if frames <= 100 else samples
    expected = [padded[int(s) : int(s) + 100] for s in np.linspace(0, len(padded) - 100, num=crops)]
    np.testing.assert_array_equal(cut(samples, crops, 100), expected)


def test_whole_utterances_stay_as_they_are_unless_they_are_tiny():
    np.testing.assert_array_equal(cut(ramp(SHORTEST + 5), 0, 100), [ramp(SHORTEST + 5)])
    assert cut(ramp(10), 0, 100).shape == (1, SHORTEST)


def test_shapes_and_values_of_whole_utterances(voices, ears):
    source, names = open_utterances(str(voices.folder)), list(voices.lengths)
    embeddings = embed(ears, source, names, **options())
    assert embeddings.shape == (12, 1, 16)
    assert embeddings.dtype == np.float32
    sound = torch.from_numpy(source.load(names[5]) / np.float32(32768))[None]
    with torch.inference_mode():
        np.testing.assert_allclose(embeddings[5], ears(sound).numpy(), rtol=1e-5)


@pytest.mark.parametrize("crops", [0, 3])
def test_neighbours_in_a_batch_do_not_matter(voices, ears, crops):
    source, names = open_utterances(str(voices.folder)), list(voices.lengths)
    alone = embed(ears, source, names, **options(crops=crops, batch_utterances=1, threads=1))
    for size in (2, 5, 100):
        together = embed(ears, source, names, **options(crops=crops, batch_utterances=size, threads=3))
        np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-6)


def test_only_pieces_of_one_length_share_a_batch(voices, ears):
    source = open_utterances(str(voices.folder))
    embed(ears, source, list(voices.lengths), **options(batch_utterances=100))
    seen = sorted(frames for count, frames in ears.calls for _ in range(count))
    assert seen == sorted(voices.lengths.values())  # nothing was padded
    assert (4, 8000) in ears.calls
    ears.calls.clear()
    embed(ears, source, list(voices.lengths), **options(crops=3, batch_utterances=8))
    assert ears.calls == [(24, crop_length(30)), (12, crop_length(30))]


@pytest.mark.parametrize("world", [1, 3, 5, 20])
def test_ranks_embed_strided_parts(voices, ears, world):
    source, names = open_utterances(str(voices.folder)), list(voices.lengths)
    whole = embed(ears, source, names, **options(crops=2))
    for rank in range(world):
        part = embed(ears, source, names, **options(crops=2, rank=rank, world=world))
        assert part.shape[1:] == (2, 16)
        np.testing.assert_allclose(part, whole[rank::world], rtol=1e-5, atol=1e-6)


def test_an_utterance_that_cannot_be_read_is_named(voices, ears, tmp_path):
    (tmp_path / "good.wav").write_bytes((voices.folder / "s0/00.wav").read_bytes())
    (tmp_path / "cut.wav").write_bytes((voices.folder / "s0/00.wav").read_bytes()[:500])
    with pytest.raises(UserError, match=r"cut\.wav"):
        embed(ears, open_utterances(str(tmp_path)), ["good.wav", "cut.wav", "good.wav"], **options())


def test_embeddings_that_are_not_finite_are_refused(voices, ears):
    ears.filters.data[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"12 utterances hold NaN or infinity, first of s0/00\.wav"):
        embed(ears, open_utterances(str(voices.folder)), list(voices.lengths), **options())


def test_reading_stays_ahead_by_a_bounded_number(voices, ears):
    class Counting:
        url = "counting"
        loaded = 0

        def load(self, name):
            self.loaded += 1
            return np.ones(2000, np.int16)

        def missing(self, names):
            return []

    source, seen = Counting(), []
    ears.register_forward_hook(lambda *_: seen.append(source.loaded))
    embed(ears, source, [str(n) for n in range(100)], **options(batch_utterances=4, threads=4))
    # Of each batch: itself, those waiting, and the one that was just handed over.
    assert all(loaded <= 4 * (batch + 1) + 8 for batch, loaded in enumerate(seen))
    assert len(seen) == 25
