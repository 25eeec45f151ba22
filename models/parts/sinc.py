"""Band-pass filters with learnt edges, over the raw waveform."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from models.parts.frontend import SAMPLE_RATE

TAPS = 251
_HALF = TAPS // 2
_LEAST_HZ = 50.0
"""The lowest lower edge, and the narrowest band."""

_FIRST_HZ = 30.0


class SincFilters(nn.Module):
    """Pairs of an even and an odd band-pass filter of 251 taps, each pair with two learnt edges.

    Ravanelli and Bengio, "Speaker recognition from raw waveform with SincNet", SLT
    2018, with the odd filters of Pariente et al., "Filterbank design for end-to-end
    speech separation", ICASSP 2020. Given the same edges it computes what
    `ParamSincFB` of asteroid-filterbanks (MIT licence) computes at 16 kHz. It works in
    float32, also under autocast: the edges are differences of large numbers.

    filters: how many, an even number. stride: samples between two outputs.
    """

    window: torch.Tensor
    times: torch.Tensor

    def __init__(self, filters: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        top = SAMPLE_RATE / 2 - 2 * _LEAST_HZ
        # numpy's float32, as the original: torch's differ in the last digit.
        mel = np.linspace(_mel(_FIRST_HZ), _mel(top), filters // 2 + 1, dtype=np.float32)
        edges = torch.from_numpy(700 * (10 ** (mel / 2595) - 1))
        self.low_hz = nn.Parameter(edges[:-1].view(-1, 1))
        self.band_hz = nn.Parameter(edges.diff().view(-1, 1))
        window = torch.hamming_window(TAPS, periodic=False, dtype=torch.float64)[:_HALF].float()
        times = 2 * math.pi * (torch.arange(-_HALF, 0.0).view(1, -1) / SAMPLE_RATE)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("times", times, persistent=False)

    def taps(self) -> torch.Tensor:
        """(filters, 1, 251): the even ones first, then the odd ones of the same bands."""
        low = _LEAST_HZ + self.low_hz.abs()
        high = (low + _LEAST_HZ + self.band_hz.abs()).clamp(_LEAST_HZ, SAMPLE_RATE / 2)
        band = high - low
        at_low, at_high, half = low @ self.times, high @ self.times, self.times / 2
        even = (at_high.sin() - at_low.sin()) / half * self.window
        odd = (at_low.cos() - at_high.cos()) / half * self.window
        even = torch.cat((even, 2 * band, even.flip(1)), dim=1)
        odd = torch.cat((odd, torch.zeros_like(band), -odd.flip(1)), dim=1)
        return (torch.cat((even, odd)) / (2 * torch.cat((band, band)))).unsqueeze(1)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, 1, samples) → (B, filters, (samples - 251) // stride + 1)."""
        return F.conv1d(audio, self.taps(), stride=self.stride)


def _mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)
