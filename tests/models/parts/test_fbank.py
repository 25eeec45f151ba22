"""Kaldi's features, as torchaudio makes them of one utterance at a time."""

from __future__ import annotations

import pytest
import torch
from torchaudio.compliance import kaldi

from models.options import ModelError
from models.parts.fbank import KaldiFrontEnd


@pytest.mark.parametrize("n_mels", [40, 80])
@pytest.mark.parametrize("samples", [400, 401, 559, 16000])
def test_equal_to_torchaudios(n_mels: int, samples: int) -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(3, samples) + 0.01
    found = KaldiFrontEnd(n_mels)(audio)
    for row in range(3):
        wanted = kaldi.fbank(
            audio[row : row + 1] * 2**15,
            num_mel_bins=n_mels,
            dither=0.0,
            window_type="hamming",
            sample_frequency=16000,
        )
        wanted = (wanted - wanted.mean(dim=0)).T
        assert found[row].shape == wanted.shape
        torch.testing.assert_close(found[row], wanted, rtol=0, atol=1e-4)


def test_unit_variance() -> None:
    found = KaldiFrontEnd(40, normalise="unit")(torch.randn(2, 8000))
    torch.testing.assert_close(found.var(dim=2, correction=0), torch.ones(2, 40), rtol=0, atol=1e-3)


def test_silence_is_zero_not_nan() -> None:
    assert KaldiFrontEnd(40)(torch.zeros(1, 1600)).abs().max() < 1e-2


@pytest.mark.slow
def test_float32_under_autocast_without_gradients_in_one_graph() -> None:
    audio = torch.randn(2, 4000, requires_grad=True)
    frontend = KaldiFrontEnd(80)
    wanted = frontend(audio)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = frontend(audio)
    assert found.dtype is torch.float32
    assert not found.requires_grad
    assert torch.equal(found, wanted)
    compiled = torch.compile(frontend, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(audio), wanted)


def test_too_short_audio_is_refused() -> None:
    with pytest.raises(ModelError, match="399 frames is shorter than one window of 400 frames"):
        KaldiFrontEnd(80)(torch.zeros(1, 399))


def test_as_3d_speaker_has_them() -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(2, 8000)
    found = KaldiFrontEnd(80, window="povey", full_scale=1.0)(audio)
    wanted = torch.stack([kaldi.fbank(row[None], num_mel_bins=80, sample_frequency=16000.0) for row in audio])
    wanted = (wanted - wanted.mean(dim=1, keepdim=True)).transpose(1, 2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
