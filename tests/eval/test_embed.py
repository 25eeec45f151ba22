from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.embed import embed, shares
from eval.protocol import Protocol
from eval.utterances import open_utterances
from models.parts.frontend import crop_length
from shard_tools import audio
from shard_tools.errors import UserError

CPU = torch.device("cpu")


def options(**changes):
    protocol = Protocol.of_crops(changes.pop("crops", 0), 30)
    return {"protocol": protocol, "device": CPU, "batch_utterances": 4, "threads": 2} | changes


def test_shapes_and_values_of_whole_utterances(voices, ears):
    source, names = open_utterances(str(voices.folder)), list(voices.lengths)
    embeddings = embed(ears, source, names, **options()).vectors
    assert embeddings.shape == (12, 1, 16)
    assert embeddings.dtype == np.float32
    sound = torch.from_numpy(source.load(names[5]) / np.float32(32768))[None]
    with torch.inference_mode():
        np.testing.assert_allclose(embeddings[5], ears(sound).numpy(), rtol=1e-5)


@pytest.mark.parametrize("crops", [0, 3])
def test_neighbours_in_a_batch_do_not_matter(voices, ears, crops):
    source, names = open_utterances(str(voices.folder)), list(voices.lengths)
    alone = embed(ears, source, names, **options(crops=crops, batch_utterances=1, threads=1)).vectors
    for size in (2, 5, 100):
        together = embed(
            ears, source, names, **options(crops=crops, batch_utterances=size, threads=3)
        ).vectors
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


@pytest.mark.parametrize("world", [2, 3, 20])
@pytest.mark.parametrize("crops", [0, 2])
def test_ranks_share_batches_so_that_all_together_are_one(voices, ears, world, crops):
    source, names = open_utterances(str(voices.folder)), list(voices.lengths)
    one, protocol = options(crops=crops), Protocol.of_crops(crops, 30)
    whole = embed(ears, source, names, **one).vectors
    every = shares(source, names, protocol, 4, world)
    assert sorted(np.concatenate(every).tolist()) == list(range(12))
    for rows in every:
        part = embed(ears, source, [names[row] for row in rows], **one).vectors
        assert part.shape[1:] == (max(crops, 1), 16)
        np.testing.assert_array_equal(part, whole[rows])  # to the bit


def test_whole_utterances_go_by_length_where_it_is_known(voices):
    class Sized:
        url = "sized"

        def frames(self, names):
            return np.array([voices.lengths[name] for name in names])

    names = list(voices.lengths)
    (order,) = shares(Sized(), names, Protocol(), 4, 1)
    lengths = [voices.lengths[names[row]] for row in order]
    assert lengths == sorted(voices.lengths.values())
    (crops,) = shares(Sized(), names, Protocol.of_crops(2, 30), 4, 1)
    assert crops.tolist() == list(range(12))


def test_windows_are_heard_in_calls_of_bounded_size(voices, ears):
    source, names = open_utterances(str(voices.folder)), list(voices.lengths)
    windows = Protocol("windows", crop_frames=20, hop=1)
    heard = embed(ears, source, names, **options(protocol=windows, batch_utterances=2))
    assert max(count for count, _ in ears.calls) == 2 * 10
    assert {frames for _, frames in ears.calls} == {crop_length(20)}
    assert heard.vectors.shape == (12, 1, 16)
    samples = source.load(names[3])
    pieces = windows.pieces(samples).all()
    with torch.inference_mode():
        each = ears(torch.from_numpy(pieces / np.float32(32768))).numpy()
    units = each / np.linalg.norm(each, axis=1, keepdims=True)
    np.testing.assert_allclose(heard.vectors[3, 0], units.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_seconds_and_silence_are_told(ears, tmp_path):
    samples = np.random.default_rng(0).integers(-99, 99, 8000).astype(np.int16)
    for name, sound in {"loud": samples, "silent": np.zeros(4000, np.int16)}.items():
        (tmp_path / f"{name}.wav").write_bytes(audio.encode(sound, "wav"))
    heard = embed(ears, open_utterances(str(tmp_path)), ["loud.wav", "silent.wav"], **options())
    assert heard.seconds.tolist() == [0.5, 0.25]
    assert heard.silent.tolist() == [False, True]


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
