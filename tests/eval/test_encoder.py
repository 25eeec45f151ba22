"""SpeakerEncoder: paths, arrays and lists of any rate give the embeddings that the network gives."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import soundfile
import torch
from checkpoints import write_checkpoint

from eval import Protocol, SpeakerEncoder
from eval.checkpoint.file import load_network, read_checkpoint
from shard_tools.errors import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "c.pt")


@pytest.fixture
def encoder(checkpoint):
    return SpeakerEncoder.load(checkpoint, device="cpu")


def test_what_the_network_gives(encoder, checkpoint, voices):
    path = voices.folder / "s1/00.wav"
    sound, rate = soundfile.read(path, dtype="float32")
    network = load_network(read_checkpoint(checkpoint), "cpu")
    with torch.inference_mode():
        expected = network(torch.from_numpy(sound)[None])[0].numpy()
    for given in (str(path), path):
        np.testing.assert_allclose(encoder.embed(given), expected, rtol=1e-5, atol=1e-6)
    for given in (sound, (sound * 32768).astype(np.int16), torch.from_numpy(sound), sound[None]):
        np.testing.assert_array_equal(encoder.embed(given, sample_rate=rate), encoder.embed(path))


def test_batches(encoder, voices):
    paths = [voices.folder / name for name in list(voices.lengths)[:5]]
    batch = encoder.embed([*paths, paths[0]])
    assert batch.shape == (6, 16)
    assert batch.dtype == np.float32
    for row, path in zip(batch, paths, strict=False):
        np.testing.assert_allclose(row, encoder.embed(path), rtol=1e-4, atol=1e-5)
    assert encoder.similarity(batch[0], batch[5]) == pytest.approx(1, abs=1e-6)
    assert encoder.similarity(batch[0], -batch[0]) == pytest.approx(-1, abs=1e-6)


def test_other_rates_are_resampled_and_that_is_said_once(encoder, tmp_path, caplog):
    sound = np.random.default_rng(0).standard_normal(48000) / 10
    soundfile.write(tmp_path / "a.flac", sound, 48000)
    with caplog.at_level(logging.WARNING, "eval"):
        found = encoder.embed(tmp_path / "a.flac")
        read, _ = soundfile.read(tmp_path / "a.flac")
        np.testing.assert_array_equal(encoder.embed(read, 48000), found)
    assert len(caplog.records) == 1
    assert "48000 Hz" in caplog.text
    assert "said once" in caplog.text


def test_several_vectors(checkpoint, voices):
    encoder = SpeakerEncoder.load(checkpoint, device="cpu", protocol=Protocol.of_crops(3, 30))
    a, b = (encoder.embed(voices.folder / name) for name in ("s0/00.wav", "s1/00.wav"))
    assert a.shape == (3, 16)
    units = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in (a, b)]
    assert encoder.similarity(a, b) == pytest.approx(float((units[0] @ units[1].T).mean()), abs=1e-6)


@pytest.mark.parametrize(
    ("sound", "rate", "words"),
    [
        (np.zeros(16000), 16000, "recording 0: nothing but silence"),
        (np.full(16000, np.nan), 16000, "recording 0: holds samples that are not numbers"),
        (np.ones(800) * 0.1, 16000, r"recording 0: 0.05 s of audio; a voice takes 0.1 s"),
        (np.zeros(0), 16000, "recording 0: holds no audio"),
        (np.zeros((16000, 2)), 16000, r"mono, \(frames,\).* found float64 \(16000, 2\)"),
        (np.arange(16000), 16000, "found int64"),
        (np.ones(16000), None, "needs its sample_rate"),
        (np.ones(16000), 12, "sample_rate 12: give a whole number of Hz, from 4000"),
        (np.ones(16000), "16000", "sample_rate '16000': give a whole number"),
        (np.ones(16000), 44100.5, "sample_rate 44100.5: give a whole number"),
        (1000 * np.random.default_rng(0).standard_normal(16000), 16000, "full scale is 1"),
        ("nowhere.wav", None, r"nowhere\.wav: there is no such file"),
    ],
)
def test_what_no_voice_can_be_found_in(encoder, sound, rate, words):
    with pytest.raises(UserError, match=words):
        encoder.embed(sound, rate)


def test_rates_and_tensors_of_other_types(encoder, voices):
    sound = 0.1 * torch.sin(torch.arange(16000) / 8)
    np.testing.assert_array_equal(encoder.embed(sound, 44100.0), encoder.embed(sound, 44100))
    assert encoder.embed(sound.bfloat16(), 16000).shape == (16,)


def test_words_that_mean_nothing(checkpoint, encoder):
    with pytest.raises(UserError, match="device is 'gpu': give auto, cpu or cuda"):
        SpeakerEncoder.load(checkpoint, device="gpu")
    with pytest.raises(UserError, match="which 'oldest': give best or newest"):
        SpeakerEncoder.load(checkpoint, which="oldest")
    with pytest.raises(UserError, match="embeddings of 16 and of 8 numbers"):
        encoder.similarity(np.ones(16, np.float32), np.ones(8, np.float32))
