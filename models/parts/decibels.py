"""The mel features of SpeechBrain: decibels, of which the quietest are cut off 80 under the loudest."""

from __future__ import annotations

import math

import torch
from torch import nn

from models.parts.frontend import HOP, SAMPLE_RATE, WINDOW, check_audio, check_bands
from models.parts.masks import Masks

_LINES = WINDOW // 2 + 1
_FLOOR = 1e-10
_RANGE_DB = 80.0


class DecibelFrontEnd(nn.Module):
    """Mel energies in decibels, less each band's mean over the utterance.

    As `Fbank` of SpeechBrain (Apache licence 2.0; Ravanelli et al., "SpeechBrain: a general-purpose speech
    toolkit", 2021) with sentence normalisation makes them: Hamming windows of 25 ms every 10 ms between zeros
    at either end, a Fourier transform of 400 points, bands from 0 Hz to 8 kHz, each as high below its middle
    as the next is wide above it.

    n_mels: number of bands. masks: what is hidden in training.

    Nothing in it learns, and it always works in float32 (float64 in a network of float64) without gradients,
    also under autocast.
    """

    window: torch.Tensor
    bands: torch.Tensor

    def __init__(self, n_mels: int, *, masks: Masks | None = None) -> None:
        super().__init__()
        self.masks = masks or Masks(0, 0)
        bands = _bands(n_mels)
        check_bands(bands, n_mels)
        # Constants: a checkpoint need not hold them.
        self.register_buffer("window", torch.hamming_window(WINDOW), persistent=False)
        self.register_buffer("bands", bands, persistent=False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio (B, samples) → float32 (B, n_mels, 1 + samples // 160).

        Raises ModelError when the audio is not (B, samples) or shorter than one window.
        """
        check_audio(audio, WINDOW)
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            samples = audio.to(self.window.dtype)
            spectrum = torch.stft(
                samples, WINDOW, HOP, WINDOW, self.window, pad_mode="constant", return_complex=True
            )
            power = spectrum.real.square() + spectrum.imag.square()
            energies = (power.transpose(1, 2) @ self.bands).transpose(1, 2)
            decibels = 10 * energies.clamp(min=_FLOOR).log10()
            decibels = torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - _RANGE_DB)
            return self.masks(decibels - decibels.mean(dim=2, keepdim=True), audio)


def _bands(n_mels: int) -> torch.Tensor:
    """(201, n_mels): how much of each line belongs to each band."""
    highest = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, n_mels + 2) / 2595) - 1)
    lines = torch.linspace(0, SAMPLE_RATE // 2, _LINES)[:, None]
    slope = (lines - edges[1:-1]) / edges.diff()[:-1]
    return torch.minimum(1 + slope, 1 - slope).clamp(min=0)
