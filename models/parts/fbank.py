"""Kaldi's filter-bank features, for a whole batch at once and on any device."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn
from torchaudio.compliance.kaldi import get_mel_banks

from models.options import ModelError
from models.parts.frontend import HOP, SAMPLE_RATE, WINDOW, check_audio, check_bands
from models.parts.masks import Masks

_FFT = 512
_LOWEST_HZ = 20.0
_FEWEST_BANDS = 4
_PREEMPHASIS = 0.97
_FULL_SCALE = 32768.0
"""Kaldi counts samples as 16-bit integers."""


def _hamming() -> torch.Tensor:
    return torch.hamming_window(WINDOW, periodic=False)


def _povey() -> torch.Tensor:
    """Between Hann's and Hamming's, and zero at its ends."""
    return torch.hann_window(WINDOW, periodic=False).pow(0.85)


_WINDOWS = {"hamming": _hamming, "povey": _povey}


class KaldiFrontEnd(nn.Module):
    """Log-mel features as Kaldi's `compute-fbank-feats` makes them, less each band's mean over the utterance.

    Hamming windows of 25 ms every 10 ms, only whole ones; from each its mean is
    taken, then pre-emphasis; 512-point FFT; bands from 20 Hz to 8 kHz; no dither.
    Equal to `torchaudio.compliance.kaldi.fbank`, and so to the features that wespeaker extracts
    embeddings from; 3D-Speaker's have the window "povey" and a full scale of 1.

    n_mels: number of bands. window: "hamming", or Kaldi's own "povey". normalise: what is taken from each
    band over the utterance: its "mean", mean and deviation ("unit"), or "none". full_scale: what a sample of
    1 counts as, which says how quiet a band has to be to be cut off. hop: samples between two frames.
    masks: what is hidden in training.

    Nothing in it learns, and it always works in float32 (float64 in a network of
    float64) without gradients, also under autocast.
    """

    window: torch.Tensor
    bands: torch.Tensor

    def __init__(
        self,
        n_mels: int,
        *,
        window: Literal["hamming", "povey"] = "hamming",
        normalise: Literal["mean", "unit", "none"] = "mean",
        full_scale: float = _FULL_SCALE,
        hop: int = HOP,
        masks: Masks | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise
        self.full_scale = full_scale
        self.hop = hop
        self.masks = masks or Masks(0, 0)
        if n_mels < _FEWEST_BANDS:
            raise ModelError(f"n_mels is {n_mels}: Kaldi's features have {_FEWEST_BANDS} bands at least")
        bands, _ = get_mel_banks(n_mels, _FFT, SAMPLE_RATE, _LOWEST_HZ, 0.0, 100.0, -500.0, 1.0)
        check_bands(bands.T, n_mels)
        # Constants: a checkpoint need not hold them.
        self.register_buffer("window", _WINDOWS[window](), persistent=False)
        self.register_buffer("bands", F.pad(bands, (0, 1)).T.contiguous(), persistent=False)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio (B, samples) in [-1, 1) → float32 (B, n_mels, 1 + (samples - 400) // hop).

        Raises ModelError when the audio is not (B, samples) or shorter than one window.
        """
        check_audio(audio, WINDOW)
        with torch.no_grad(), torch.autocast(audio.device.type, enabled=False):
            frames = (audio.to(self.window.dtype) * self.full_scale).unfold(
                1, WINDOW, self.hop
            )  # (B, T, 400)
            frames = frames - frames.mean(dim=2, keepdim=True)
            before = torch.cat((frames[..., :1], frames[..., :-1]), dim=2)
            spectrum = torch.fft.rfft((frames - _PREEMPHASIS * before) * self.window, _FFT)
            power = spectrum.real.square() + spectrum.imag.square()
            least = torch.finfo(torch.float32).eps
            features = (power @ self.bands).clamp(min=least).log().transpose(1, 2)
            if self.normalise == "unit":
                features = F.instance_norm(features)
            elif self.normalise == "mean":
                features = features - features.mean(dim=2, keepdim=True)
            return self.masks(features, audio)


def kaldi_frontend(features: str, n_mels: int, *, unit_variance: bool, masks: Masks) -> KaldiFrontEnd:
    """The features of "wespeaker" or "3d-speaker"; unit_variance: with a deviation of 1 in each utterance."""
    theirs = features == "3d-speaker"
    return KaldiFrontEnd(
        n_mels,
        window="povey" if theirs else "hamming",
        full_scale=1.0 if theirs else _FULL_SCALE,
        normalise="unit" if unit_variance else "mean",
        masks=masks,
    )
