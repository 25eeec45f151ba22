"""CAM++: a densely connected TDNN whose layers are masked by what surrounds them."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.options import ModelError, Within
from models.parts.fbank import kaldi_frontend
from models.parts.frontend import HOP, WINDOW, check_audio
from models.parts.masks import Masks
from models.parts.precision import wide

_HEAD_CHANNELS = 32
_SHRINKS = 8
_BLOCKS = ((12, 1), (24, 2), (16, 2))
"""(layers, dilation) of each block."""

_SEGMENT = 100
"""Frames whose mean is the nearer context of each of them."""

_LEAST_VARIANCE = 1e-7


class CAMPlusPlus(nn.Module):
    """Residual convolutions in front, three dense TDNN blocks with context-aware masking, statistics pooling.

    Wang et al., "CAM++: a fast and efficient network for speaker verification using
    context-aware masking", Interspeech 2023; as 3D-Speaker and wespeaker (Apache
    licence 2.0) have it: given the same weights it computes what their `CAMPPlus`
    computes on Kaldi's features. 7.2 million weights at its defaults.

    n_mels: mel bands, a multiple of 8. channels: before the first block, an even number. growth: channels
    that each layer adds, an even number. embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment). unit_variance:
    features have a deviation of 1 in each utterance, too. features: whose; 3D-Speaker takes Kaldi's with
    their usual window, of samples in [-1, 1), and adds nothing to the variance that is pooled.
    """

    least_samples = WINDOW + 2 * HOP
    """Two frames after the stride: one has no variance."""

    def __init__(
        self,
        *,
        n_mels: Annotated[int, Within(8, 256)] = 80,
        channels: Annotated[int, Within(8, 4096)] = 128,
        growth: Annotated[int, Within(2, 512)] = 32,
        embedding_size: Annotated[int, Within(1, 8192)] = 512,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
        unit_variance: bool = False,
        features: Literal["wespeaker", "3d-speaker"] = "wespeaker",
    ) -> None:
        super().__init__()
        if n_mels % _SHRINKS:
            near = n_mels // _SHRINKS * _SHRINKS
            raise ModelError(
                f"n_mels is {n_mels}: three strides of 2 must divide it; give {near} or {near + _SHRINKS}"
            )
        for name, value in (("channels", channels), ("growth", growth)):
            if value % 2:
                raise ModelError(f"{name} is {value}: each block halves its channels; give {value + 1}")
        self.embedding_size = embedding_size
        self.frontend = kaldi_frontend(
            features, n_mels, unit_variance=unit_variance, masks=Masks(mask_bands, mask_frames)
        )
        self.exact_deviation = features == "3d-speaker"
        self.head = _Head()
        self.tdnn = nn.Conv1d(
            _HEAD_CHANNELS * n_mels // _SHRINKS, channels, 5, stride=2, padding=2, bias=False
        )
        self.bn_tdnn = nn.BatchNorm1d(channels)
        blocks: list[nn.Module] = []
        for layers, dilation in _BLOCKS:
            blocks.append(_DenseBlock(channels, layers, growth, dilation))
            channels += layers * growth
            blocks.append(_Transit(channels))
            channels //= 2
        self.blocks = nn.Sequential(*blocks)
        self.bn_frames = nn.BatchNorm1d(channels)
        self.fc = nn.Conv1d(2 * channels, embedding_size, 1, bias=False)
        self.bn_embedding = nn.BatchNorm1d(embedding_size, affine=False)
        for module in self.modules():
            if isinstance(module, nn.Conv1d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ 720 → (B, embedding_size).

        Raises ModelError for audio that is shorter.
        """
        check_audio(audio, self.least_samples)
        return self.embed(self.frontend(audio))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """(B, n_mels, T) → (B, embedding_size)."""
        frames = torch.relu(self.bn_tdnn(self.tdnn(self.head(features))))
        frames = wide(torch.relu(self.bn_frames(self.blocks(frames))))
        # Channels that are silent in an utterance are many.
        deviation = (
            frames.std(dim=2) if self.exact_deviation else (frames.var(dim=2) + _LEAST_VARIANCE).sqrt()
        )
        statistics = torch.cat((frames.mean(dim=2), deviation), dim=1)
        return self.bn_embedding(self.fc(statistics.unsqueeze(2)).squeeze(2))


class _Head(nn.Module):
    """Residual 3 × 3 convolutions that make an eighth of the mel bands, at the same length."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _HEAD_CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(_HEAD_CHANNELS)
        self.blocks = nn.Sequential(*(_ResidualBlock(stride) for stride in (2, 1, 2, 1)))
        self.conv2 = nn.Conv2d(_HEAD_CHANNELS, _HEAD_CHANNELS, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(_HEAD_CHANNELS)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, n_mels, T) → (B, 32 * n_mels / 8, T)."""
        maps = self.blocks(torch.relu(self.bn1(self.conv1(features.unsqueeze(1)))))
        return torch.relu(self.bn2(self.conv2(maps))).flatten(1, 2)


class _ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut; the stride is of the mel axis alone."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        channels = _HEAD_CHANNELS
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.bn1(self.conv1(maps)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(maps))


class _DenseBlock(nn.Module):
    """Layers each of which sees the outputs of all before it."""

    def __init__(self, channels: int, layers: int, growth: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _MaskedLayer(channels + number * growth, growth, dilation) for number in range(layers)
        )

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → (B, channels + layers * growth, T)."""
        for layer in self.layers:
            frames = torch.cat((frames, layer(frames)), dim=1)
        return frames


class _MaskedLayer(nn.Module):
    """A bottleneck and a dilated convolution, whose output is masked by the bottleneck's context."""

    def __init__(self, channels: int, growth: int, dilation: int) -> None:
        super().__init__()
        bottleneck = 4 * growth
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv1 = nn.Conv1d(channels, bottleneck, 1, bias=False)
        self.bn2 = nn.BatchNorm1d(bottleneck)
        self.conv2 = nn.Conv1d(bottleneck, growth, 3, dilation=dilation, padding=dilation, bias=False)
        self.squeeze = nn.Conv1d(bottleneck, bottleneck // 2, 1)
        self.excite = nn.Conv1d(bottleneck // 2, growth, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → (B, growth, T)."""
        frames = torch.relu(self.bn2(self.conv1(torch.relu(self.bn1(frames)))))
        context = frames.mean(dim=2, keepdim=True) + _segment_means(frames)
        mask = torch.sigmoid(self.excite(torch.relu(self.squeeze(context))))
        return self.conv2(frames) * mask


def _segment_means(frames: torch.Tensor) -> torch.Tensor:
    """(B, C, T): every 100 frames their mean, the last ones that of those which are left."""
    length = frames.shape[2]
    if torch.compiler.is_exporting():
        # Of what depends on the number of segments only one length could be written: sums up to each frame.
        upto = F.pad(frames.cumsum(dim=2), (1, 0))
        first = torch.arange(length, device=frames.device) // _SEGMENT * _SEGMENT
        last = (first + _SEGMENT).clamp(max=length)
        return (upto.index_select(2, last) - upto.index_select(2, first)) / (last - first)
    means = F.avg_pool1d(frames, _SEGMENT, stride=_SEGMENT, ceil_mode=True)
    return means.repeat_interleave(_SEGMENT, dim=2)[..., :length]


class _Transit(nn.Module):
    """Half the channels go on."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(channels)
        self.conv = nn.Conv1d(channels, channels // 2, 1, bias=False)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.conv(torch.relu(self.bn(frames)))
