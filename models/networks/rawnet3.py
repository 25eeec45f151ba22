"""RawNet3: from the waveform by learnt band-pass filters, without a spectrogram."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import nn

from models.options import ModelError, Within
from models.parts.frontend import PreEmphasis, check_audio
from models.parts.maxpool import MaxPool
from models.parts.precision import wide
from models.parts.sinc import TAPS, SincFilters

_SCALE = 8
_FRAMES = 1536
"""Channels that are pooled over time."""

_POOLS = (5, 3)
_LEAST_VARIANCE, _MOST_VARIANCE = 1e-4, 1e4
_LEAST_DEVIATION = 1e-3
_LEAST_FRAMES = 2
"""Of what is pooled: one has no variance."""


class RawNet3(nn.Module):
    """Sinc filters, three Res2Net blocks with learnt scaling of their maps, attentive statistics.

    Jung et al., "Pushing the limits of raw waveform speaker recognition",
    Interspeech 2022, as the VoxCeleb trainer (MIT licence) has it: given the same
    weights it computes what its `RawNet3` computes, with `ECA` or `ASP`. 16.3 million
    weights at its defaults.

    channels: of each block, a multiple of 8; a quarter of them are filters. pooling: "eca" (a weight for
    each channel and frame) or "asp" (one for each frame). context: whether these weights see the
    utterance's mean and standard deviation. summed: whether the third block sees the first
    one's output too. log_sinc: logarithm of the filters' magnitudes. norm_sinc: what is
    taken from each filter's output over the utterance: its "mean", mean and
    deviation ("mean_std"), or "none". sinc_stride: samples between two outputs of a filter.
    embedding_norm: batch normalisation of the embedding. embedding_size: dimensions of
    the output.
    """

    def __init__(
        self,
        *,
        channels: Annotated[int, Within(16, 4096)] = 1024,
        pooling: Literal["eca", "asp"] = "eca",
        context: bool = True,
        summed: bool = True,
        log_sinc: bool = True,
        norm_sinc: Literal["mean", "mean_std", "none"] = "mean",
        sinc_stride: Annotated[int, Within(1, 160)] = 10,
        embedding_norm: bool = False,
        embedding_size: Annotated[int, Within(1, 8192)] = 256,
    ) -> None:
        super().__init__()
        if channels % _SCALE:
            near = channels // _SCALE * _SCALE
            raise ModelError(
                f"channels is {channels}: blocks part them into {_SCALE}; give {near} or {near + _SCALE}"
            )
        self.embedding_size = embedding_size
        self.context, self.summed = context, summed
        self.log_sinc, self.norm_sinc = log_sinc, norm_sinc
        self.least_samples = TAPS + (_LEAST_FRAMES * _POOLS[0] * _POOLS[1] - 1) * sinc_stride
        filters = channels // 4
        self.preemphasis = PreEmphasis()
        self.loudness = nn.InstanceNorm1d(1, eps=1e-4, affine=True)
        self.filters = SincFilters(filters, stride=sinc_stride)
        self.block1 = Res2Block(filters, channels, dilation=2, pool=_POOLS[0])
        self.block2 = Res2Block(channels, channels, dilation=3, pool=_POOLS[1])
        self.block3 = Res2Block(channels, channels, dilation=4)
        self.merge = nn.Conv1d(3 * channels, _FRAMES, 1)
        self.scores = nn.Sequential(
            nn.Conv1d(_FRAMES * (3 if context else 1), 128, 1),
            nn.ReLU(),
            nn.BatchNorm1d(128),
            nn.Conv1d(128, _FRAMES if pooling == "eca" else 1, 1),
        )
        self.bn_pooled = nn.BatchNorm1d(2 * _FRAMES)
        self.fc = nn.Linear(2 * _FRAMES, embedding_size)
        self.bn_embedding = nn.BatchNorm1d(embedding_size) if embedding_norm else nn.Identity()
        self.third = FramePool(_POOLS[1])

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ 541 → (B, embedding_size).

        The least grows with sinc_stride. Raises ModelError for audio that is shorter.
        """
        check_audio(audio, self.least_samples)
        first = self.block1(self._features(audio))
        second = self.block2(first)
        pooled = self.third(first)
        third = self.block3(pooled + second if self.summed else second)
        frames = torch.relu(self.merge(torch.cat((pooled, second, third), dim=1)))
        return self.bn_embedding(self.fc(self.bn_pooled(self._statistics(frames))))

    def _features(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, samples) → (B, filters, T), in float32 also under autocast."""
        with torch.autocast(audio.device.type, enabled=False):
            audio = audio.to(self.filters.low_hz.dtype)
            features = self.filters(self.loudness(self.preemphasis(audio).unsqueeze(1))).abs()
            if self.log_sinc:
                features = (features + 1e-6).log()
            if self.norm_sinc != "none":
                features = features - features.mean(dim=-1, keepdim=True)
            if self.norm_sinc == "mean_std":
                features = features / features.std(dim=-1, keepdim=True).clamp(min=_LEAST_DEVIATION)
            return features

    def _statistics(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, 1536, T) → (B, 3072): weighted means and standard deviations."""
        seen = frames
        if self.context:
            whole = wide(frames)
            mean = whole.mean(dim=2, keepdim=True)
            deviation = whole.var(dim=2, keepdim=True).clamp(_LEAST_VARIANCE, _MOST_VARIANCE).sqrt()
            seen = torch.cat((frames, mean.expand_as(frames), deviation.expand_as(frames)), dim=1)
        weights = wide(self.scores(seen)).softmax(dim=2)
        frames = wide(frames)
        mean = (frames * weights).sum(dim=2)
        variance = (frames.square() * weights).sum(dim=2) - mean.square()
        return torch.cat((mean, variance.clamp(_LEAST_VARIANCE, _MOST_VARIANCE).sqrt()), dim=1)


class Res2Block(nn.Module):
    """Convolutions of one eighth of the channels each, every one seeing the one before, and a shortcut.

    Gao et al., "Res2Net", 2021; each layer is convolution → ReLU → batch normalisation. The output is
    scaled channel by channel (`FeatureMapScaling`).

    pool: so many frames become one, their maximum.
    """

    def __init__(self, channels_in: int, channels: int, *, dilation: int, pool: int = 1) -> None:
        super().__init__()
        width = channels // _SCALE
        self.conv1 = nn.Conv1d(channels_in, channels, 1)
        self.bn1 = nn.BatchNorm1d(channels)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, dilation=dilation, padding=dilation) for _ in range(_SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(_SCALE - 1))
        self.conv2 = nn.Conv1d(channels, channels, 1)
        self.bn2 = nn.BatchNorm1d(channels)
        self.pool = FramePool(pool) if pool > 1 else nn.Identity()
        self.scaling = FeatureMapScaling(channels)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels:
            self.shortcut = nn.Conv1d(channels_in, channels, 1, bias=False)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, T) → (B, channels, T // pool)."""
        *parts, last = self.bn1(torch.relu(self.conv1(frames))).chunk(_SCALE, dim=1)
        done: list[torch.Tensor] = []
        for part, convolve, normalise in zip(parts, self.convs, self.bns, strict=True):
            before = done[-1] + part if done else part
            done.append(normalise(torch.relu(convolve(before))))
        out = self.bn2(torch.relu(self.conv2(torch.cat((*done, last), dim=1))))
        return self.scaling(self.pool(out + self.shortcut(frames)))


class FramePool(nn.Module):
    """Of each so many frames the maximum."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.pool = MaxPool((1, frames), (1, frames))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, C, T) → (B, C, T // frames)."""
        pooled: torch.Tensor = self.pool(frames.unsqueeze(2))
        return pooled.squeeze(2)


class FeatureMapScaling(nn.Module):
    """Adds a learnt number to each channel and scales it by one in (0, 1) of all the channels' means.

    Jung et al., "Improved RawNet with feature map scaling", Interspeech 2020.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels, 1))
        self.fc = nn.Linear(channels, channels)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → the same shape."""
        gates = torch.sigmoid(self.fc(frames.mean(dim=2))).unsqueeze(2)
        return (frames + self.alpha) * gates
