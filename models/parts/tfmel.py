"""The mel features of ReDimNet's released networks: a transform by matrices, and bands of their own."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.parts.frontend import HOP, SAMPLE_RATE, WINDOW, PreEmphasis, check_audio, check_bands
from models.parts.masks import Masks

_FFT = 512
_LINES = _FFT // 2
"""Lines of a spectrum: without that of half the sample rate."""
_LOW_HZ, _HIGH_HZ = 20.0, 7600.0
_FLOOR = 1e-8


class UnitAudio(nn.Module):
    """Each utterance less its mean, divided by its standard deviation plus `floor`."""

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, samples) → the same shape, of float32 at least, without gradients."""
        with torch.no_grad():
            audio = audio if audio.dtype is torch.float64 else audio.float()
            centred = audio - audio.mean(dim=1, keepdim=True)
            return centred / (audio.std(dim=1, keepdim=True, correction=0) + self.floor)


class TFMelFrontEnd(nn.Module):
    """Log-mel features less each band's mean over the utterance, as wespeaker's front-end `tfmel` has them.

    Yakovlev et al., "Reshape dimensions network for speaker recognition", Interspeech 2024, in the form that
    runs without a Fourier transform: pre-emphasis, symmetric Hamming windows of 25 ms every `hop` samples
    between zeros, half a hop of them, at either end, and 512-point cosines and sines as one product of
    matrices. The `n_mels` bands from 20 to 7600 Hz lie on frequencies that are spaced a 255th of half the
    sample rate apart, not a 256th: so were they drawn, and so must those be who use the weights.

    Nothing in it learns, and it always works in float32 (float64 in a network of float64) without gradients,
    also under autocast.
    """

    waves: torch.Tensor
    bands: torch.Tensor

    def __init__(self, n_mels: int, *, hop: int = HOP, masks: Masks | None = None) -> None:
        super().__init__()
        self.hop = hop
        self.preemphasis = PreEmphasis()
        self.masks = masks or Masks(0, 0)
        bands = torch.from_numpy(_bands(n_mels))
        check_bands(bands, n_mels)
        # Constants: a checkpoint need not hold them.
        self.register_buffer("waves", torch.from_numpy(_waves()), persistent=False)
        self.register_buffer("bands", bands, persistent=False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio (B, samples) → float32 (B, n_mels, 1 + (samples + 2 * (hop // 2) - 400) // hop).

        Raises ModelError when the audio is not (B, samples) or shorter than one window.
        """
        check_audio(audio, WINDOW)
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            emphasised = self.preemphasis(audio.to(self.waves.dtype))
            padding = self.hop // 2
            frames = nn.functional.pad(emphasised, (padding, padding)).unfold(1, WINDOW, self.hop)
            cosines, sines = (frames @ self.waves).split(_LINES, dim=2)  # (B, T, 256) each
            power = (cosines.square() + sines.square()).clamp(_FLOOR, 1 / _FLOOR)
            energies = (power @ self.bands).clamp(_FLOOR, 1 / _FLOOR)
            features = (energies + _FLOOR).log().transpose(1, 2)
            return self.masks(features - features.mean(dim=2, keepdim=True), audio)


def _waves() -> NDArray[np.float32]:
    """(400, 512): cosines, then sines, of each line under the window, rounded as the original's are."""
    window = np.hamming(WINDOW).astype(np.float32)[:, None]
    angles = 2 * np.pi * np.outer(np.arange(WINDOW), np.arange(_LINES)) / _FFT
    waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return waves.astype(np.float32) * window


def _bands(n_mels: int) -> NDArray[np.float32]:
    """(256, n_mels): how much of each line belongs to each band."""
    edges = np.linspace(_mels(_LOW_HZ), _mels(_HIGH_HZ), n_mels + 2)
    lines = _mels(np.linspace(0, SAMPLE_RATE / 2, _LINES))[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    weights = np.minimum((lines - low) / (middle - low), (high - lines) / (high - middle))
    weights[0] = 0
    return np.maximum(0, weights).astype(np.float32)


def _mels(hertz: float | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))
