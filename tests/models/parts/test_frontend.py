"""The front-end: torchaudio's mel spectrogram, always in float32 and without gradients."""

from __future__ import annotations

import pytest
import torch
import torchaudio

from models.options import ModelError
from models.parts.fbank import KaldiFrontEnd
from models.parts.frontend import SAMPLE_RATE, MelFrontEnd, crop_length
from shard_tools import audio


@pytest.mark.parametrize("n_mels", [40, 64])
def test_features_are_torchaudios_mel_energies(n_mels: int) -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(2, 5000)
    reference = torchaudio.transforms.MelSpectrogram(
        sample_rate=16000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        window_fn=torch.hamming_window,
        n_mels=n_mels,
    )(audio)
    logarithm = (reference + 1e-6).log()
    centred = logarithm - logarithm.mean(dim=2, keepdim=True)
    found = MelFrontEnd(n_mels, unit_variance=False)(audio)
    assert found.shape == (2, n_mels, 1 + 5000 // 160)
    assert torch.allclose(found, centred, atol=1e-4)
    unit = centred / (centred.var(dim=2, keepdim=True, correction=0) + 1e-5).sqrt()
    assert torch.allclose(MelFrontEnd(n_mels)(audio), unit, atol=1e-4)


def test_edges_and_preemphasis_as_redimnets_features() -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(2, 5000)
    before = torch.nn.functional.pad(audio, (1, 0), "reflect")[:, :-1]
    reference = torchaudio.transforms.MelSpectrogram(
        sample_rate=16000,
        n_fft=512,
        win_length=400,
        hop_length=160,
        f_min=20,
        f_max=7600,
        window_fn=torch.hamming_window,
        n_mels=72,
    )(audio - 0.97 * before)
    logarithm = (reference + 1e-6).log()
    found = MelFrontEnd(72, unit_variance=False, preemphasis=True, low_hz=20.0, high_hz=7600.0)(audio)
    assert torch.allclose(found, logarithm - logarithm.mean(dim=2, keepdim=True), atol=1e-4)


@pytest.mark.parametrize("kind", [MelFrontEnd, KaldiFrontEnd])
def test_bands_without_a_frequency_are_refused(kind: type[torch.nn.Module]) -> None:
    kind(114)
    with pytest.raises(ModelError, match=r"n_mels is 200: .* would be empty, .* give 114 or fewer"):
        kind(200)


def test_float32_under_autocast_and_for_other_types() -> None:
    torch.manual_seed(0)
    frontend = MelFrontEnd(40)
    audio = 0.1 * torch.randn(2, 5000)
    wanted = frontend(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = frontend(audio)
    assert found.dtype is torch.float32
    assert torch.equal(found, wanted)
    assert frontend(audio.double()).dtype is torch.float32


def test_no_gradients_reach_the_audio() -> None:
    audio = torch.randn(1, 800, requires_grad=True)
    assert not MelFrontEnd(40)(audio).requires_grad


def test_a_band_without_signal_is_zero_not_nan() -> None:
    # Not exactly zero: the mean of equal numbers is rounded, and the deviation divided by √1e-5.
    assert MelFrontEnd(40)(torch.zeros(1, 1600)).abs().max() < 1e-2


def test_crop_lengths_are_the_voxceleb_trainers():
    assert crop_length(400) == 64240  # 400 steps of 10 ms and the rest of the last 25 ms window
    assert crop_length(200) == 32240


def test_audio_is_sampled_as_shards_are():
    assert SAMPLE_RATE == audio.SAMPLE_RATE
