"""Poolings: from a sequence of feature frames to one vector, whatever the length."""

from __future__ import annotations

import torch
from torch import nn

from models.parts.precision import wide

_LEAST_VARIANCE = 1e-5
"""Under the square root of a standard deviation, so that its slope stays finite."""


_CONTEXT_HIDDEN = 128
_LEAST_CONTEXT_VARIANCE = 1e-7


class _FrameAttention(nn.Module):
    """One weight per feature frame, summing to 1 over time.

    The score of a frame is the inner product of a learnt vector with a
    one-layer tanh network of the frame (Cai et al., "Exploring the encoding layer
    and loss function in end-to-end speaker and language recognition system", 2018).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = nn.Parameter(torch.empty(channels, 1))
        self.hidden = nn.Linear(channels, channels)
        nn.init.xavier_normal_(self.attention)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, channels) → (B, T, 1) float32."""
        scores = torch.tanh(self.hidden(frames)) @ self.attention
        return wide(scores).softmax(dim=1)


class SelfAttentivePooling(nn.Module):
    """ "sap": the attention-weighted mean over time (Cai et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = _FrameAttention(channels)
        self.output_size = channels

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, channels) → (B, channels)."""
        return (frames * self.weigh(frames)).sum(dim=1)


class AttentiveStatisticsPooling(nn.Module):
    """ "asp": the attention-weighted mean and standard deviation over time (Okabe et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weigh = _FrameAttention(channels)
        self.output_size = 2 * channels

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, channels) → (B, 2 * channels) float32: means, then standard deviations."""
        weights = self.weigh(frames)
        # A variance as the difference of two squares cancels: only float32 keeps its digits.
        frames = wide(frames)
        mean = (frames * weights).sum(dim=1)
        variance = (frames.square() * weights).sum(dim=1) - mean.square()
        return torch.cat((mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()), dim=1)


class ChannelAttentivePooling(nn.Module):
    """A weight for each channel and frame: the weighted mean over time, and the standard deviation besides.

    The scores are a bottleneck's: convolution of one frame, ReLU, batch normalisation, convolution
    (ResNetSE34V2 of the VoxCeleb trainer, Heo et al., "Clova baseline system for the VoxCeleb Speaker
    Recognition Challenge 2020").

    hidden: channels of the bottleneck. deviation: whether standard deviations follow the means.
    """

    def __init__(self, channels: int, *, hidden: int = 128, deviation: bool) -> None:
        super().__init__()
        self.deviation = deviation
        self.output_size = channels * (1 + deviation)
        self.scores = nn.Sequential(
            nn.Conv1d(channels, hidden, 1), nn.ReLU(), nn.BatchNorm1d(hidden), nn.Conv1d(hidden, channels, 1)
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → (B, output_size) float32: means, then standard deviations."""
        weights = wide(self.scores(frames)).softmax(dim=2)
        frames = wide(frames)
        mean = (frames * weights).sum(dim=2)
        if not self.deviation:
            return mean
        variance = (frames.square() * weights).sum(dim=2) - mean.square()
        return torch.cat((mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()), dim=1)


class ContextPooling(nn.Module):
    """Weighted mean and standard deviation over time: a tanh bottleneck weighs each channel and frame.

    Desplanques et al., "ECAPA-TDNN", Interspeech 2020, as wespeaker has it.

    context: whether the bottleneck sees the utterance's mean and standard deviation besides, for which
    an utterance needs two frames.
    """

    def __init__(self, channels: int, *, context: bool) -> None:
        super().__init__()
        self.context = context
        self.output_size = 2 * channels
        self.hidden = nn.Conv1d(channels * (3 if context else 1), _CONTEXT_HIDDEN, 1)
        self.scores = nn.Conv1d(_CONTEXT_HIDDEN, channels, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → (B, 2 * channels) float32."""
        seen, whole = frames, wide(frames)
        if self.context:
            mean = whole.mean(dim=2, keepdim=True)
            deviation = (whole.var(dim=2, keepdim=True) + _LEAST_CONTEXT_VARIANCE).sqrt()
            seen = torch.cat((frames, mean.expand_as(frames), deviation.expand_as(frames)), dim=1)
        weights = wide(self.scores(torch.tanh(self.hidden(seen)))).softmax(dim=2)
        mean = (whole * weights).sum(dim=2)
        variance = (whole.square() * weights).sum(dim=2) - mean.square()
        return torch.cat((mean, variance.clamp(min=_LEAST_CONTEXT_VARIANCE).sqrt()), dim=1)


class StatisticsPooling(nn.Module):
    """The mean and standard deviation over time, without weights (Snyder et al., "X-vectors", 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.output_size = 2 * channels

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, channels) → (B, 2 * channels) float32: means, then standard deviations."""
        frames = wide(frames)
        mean = frames.mean(dim=1, keepdim=True)
        variance = (frames - mean).square().mean(dim=1)
        return torch.cat((mean.squeeze(1), variance.clamp(min=_LEAST_VARIANCE).sqrt()), dim=1)
