"""From audio to log-mel features, the same for every network."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
import torch.nn.functional as F
import torchaudio
from torch import nn

from models.options import ModelError
from models.parts.masks import Masks

SAMPLE_RATE = 16000
WINDOW = 400
"""Audio frames in one analysis window (25 ms); the shortest audio a network takes."""
HOP = 160
"""Audio frames between two feature frames (10 ms)."""


def crop_length(feature_frames: int) -> int:
    """Audio samples under `feature_frames` feature frames, as in the VoxCeleb trainer."""
    return feature_frames * HOP + WINDOW - HOP


_PREEMPHASIS = 0.97
_WINDOWS = {"hamming": torch.hamming_window, "hann": torch.hann_window}
_FFT = 512
_SAFE_BANDS = 114
"""Mel bands of which none is empty, wherever a front-end begins and ends."""

_FLOOR = 1e-6
"""Added to the mel energies before the logarithm, as in the VoxCeleb trainer."""


def check_audio(audio: torch.Tensor, least: int) -> None:
    """Raise ModelError unless `audio` is (B, samples) with at least so many samples."""
    if audio.dim() != 2:
        raise ModelError(f"audio of shape {tuple(audio.shape)}: a network takes (batch, frames)")
    if audio.shape[1] < least:
        what = "one window of" if least == WINDOW else "the least that this network takes,"
        raise ModelError(
            f"audio of {audio.shape[1]} frames is shorter than {what} {least} frames"
            f" ({1000 * least / SAMPLE_RATE:.4g} ms at {SAMPLE_RATE} Hz); use longer audio"
        )


def check_bands(bands: torch.Tensor, n_mels: int) -> None:
    """Raise ModelError when one of the mel filters `bands`, (lines of the spectrum, n_mels), is empty."""
    empty = int((bands.amax(dim=0) <= 0).sum())
    if empty:
        raise ModelError(
            f"n_mels is {n_mels}: {empty} of the bands would be empty, narrower than the"
            f" {SAMPLE_RATE / _FFT:g} Hz between two lines of a spectrum; give {_SAFE_BANDS} or fewer"
        )


class PreEmphasis(nn.Module):
    """Each sample less 0.97 of the one before; the first has the second before it, as by reflection."""

    factor: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        # A buffer, so that a network of float64 has the float32 number that its weights were trained with.
        self.register_buffer("factor", torch.tensor(_PREEMPHASIS), persistent=False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, samples) → the same shape."""
        before = torch.cat((audio[:, 1:2], audio[:, :-1]), dim=1)
        return audio - self.factor * before


class MelFrontEnd(nn.Module):
    """Mel spectrogram, logarithm, and normalisation of each band over the utterance.

    Windows of 25 ms every 10 ms, 512-point FFT, `n_mels` HTK-scale bands, as in the VoxCeleb
    trainer (Chung et al., "In defence of metric learning for speaker recognition", 2020).
    Equal to torchaudio's MelSpectrogram, which `torch.compile` cannot trace whole. Subtracting
    each band's mean over the utterance takes away its level and the colour of its channel.

    n_mels: number of bands. log_input: take the natural logarithm.
    unit_variance: also divide each band by its standard deviation over the
    utterance (instance normalisation without weights), as the VoxCeleb trainer.

    window: "hamming" or "hann". preemphasis: subtract 0.97 of the sample before from each sample first.
    low_hz, high_hz: where the lowest band begins and the highest ends. hop: samples between two frames.
    masks: what is hidden in training.

    Nothing in it learns, and it always works in float32 (float64 in a network of
    float64) without gradients, also under autocast: the energies span more
    decades than half precision resolves.
    """

    window: torch.Tensor
    bands: torch.Tensor

    def __init__(
        self,
        n_mels: int,
        *,
        log_input: bool = True,
        unit_variance: bool = True,
        window: Literal["hamming", "hann"] = "hamming",
        preemphasis: bool = False,
        low_hz: float = 0.0,
        high_hz: float = SAMPLE_RATE / 2,
        hop: int = HOP,
        masks: Masks | None = None,
    ) -> None:
        super().__init__()
        self.hop = hop
        self.preemphasis = PreEmphasis() if preemphasis else nn.Identity()
        self.masks = masks or Masks(0, 0)
        self.log_input = log_input
        self.unit_variance = unit_variance
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of empty bands, which are refused below
            bands = torchaudio.functional.melscale_fbanks(
                _FFT // 2 + 1, low_hz, high_hz, n_mels, SAMPLE_RATE, norm=None, mel_scale="htk"
            )
        check_bands(bands, n_mels)
        # Constants: a checkpoint need not hold them.
        self.register_buffer("window", _WINDOWS[window](WINDOW), persistent=False)
        self.register_buffer("bands", bands, persistent=False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio (B, frames) in [-1, 1) → float32 (B, n_mels, 1 + frames // hop).

        Raises ModelError when the audio is not (B, frames) or shorter than one window.
        """
        check_audio(audio, WINDOW)
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            emphasised = self.preemphasis(audio.to(self.window.dtype))
            spectrum = torch.stft(emphasised, _FFT, self.hop, WINDOW, self.window, return_complex=True)
            # Not |spectrum|²: its square root and extra copies cost more than the Fourier transform on a CPU.
            power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
            features = (power.transpose(1, 2) @ self.bands).transpose(1, 2) + _FLOOR
            if self.log_input:
                features = features.log()
            if self.unit_variance:
                features = F.instance_norm(features)
            else:
                features = features - features.mean(dim=-1, keepdim=True)
            return self.masks(features, audio)
