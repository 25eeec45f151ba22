"""ResNet: the plain residual network over Kaldi's features, from 18 to 293 layers."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import nn

from models.options import ModelError, Within
from models.parts.fbank import kaldi_frontend
from models.parts.frontend import HOP, WINDOW, check_audio
from models.parts.masks import Masks
from models.parts.precision import wide

BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    221: (6, 16, 48, 3),
    293: (10, 20, 64, 3),
}
"""Depth → blocks of each stage."""

DEEPEST_BASIC = 34
"""Deeper ones are made of bottlenecks."""

_SHRINKS = 8
_LEAST_VARIANCE = {"wespeaker": 1e-7, "3d-speaker": 1e-8}


class ResNet(nn.Module):
    """ResNet at half the usual channels, temporal statistics pooling, one linear layer.

    He et al., "Deep residual learning for image recognition", 2016; for speakers
    Zeinali et al., "BUT system description to VoxCeleb Speaker Recognition Challenge
    2019"; as wespeaker and 3D-Speaker (Apache licence 2.0) have it: given the same weights it
    computes what their `ResNet18` to `ResNet293` compute on Kaldi's features. 6.6 million
    weights at 34 layers, 28.6 million at 293.

    depth: 18, 34, 50, 101, 152, 221 or 293 layers. n_mels: mel bands, a multiple of 8.
    channels: of the first stage; each later one has twice as many. second_layer: a
    ReLU, a normalisation and another linear layer after the first, whose output is
    then the embedding. embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment). unit_variance:
    features have a deviation of 1 in each utterance, too. features: whose; 3D-Speaker takes Kaldi's with
    their usual window, of samples in [-1, 1).
    """

    least_samples = WINDOW + HOP * _SHRINKS
    """Two frames of the last stage: one has no variance."""

    def __init__(
        self,
        *,
        depth: Annotated[int, Within(18, 293)] = 34,
        n_mels: Annotated[int, Within(8, 256)] = 80,
        channels: Annotated[int, Within(4, 1024)] = 32,
        second_layer: bool = False,
        embedding_size: Annotated[int, Within(1, 8192)] = 256,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
        unit_variance: bool = False,
        features: Literal["wespeaker", "3d-speaker"] = "wespeaker",
    ) -> None:
        super().__init__()
        if depth not in BLOCKS:
            raise ModelError(f"depth is {depth}; there are: {', '.join(map(str, BLOCKS))}")
        if n_mels % _SHRINKS:
            near = n_mels // _SHRINKS * _SHRINKS
            raise ModelError(
                f"n_mels is {n_mels}: three strides of 2 must divide it; give {near} or {near + _SHRINKS}"
            )
        self.embedding_size = embedding_size
        self.frontend = kaldi_frontend(
            features, n_mels, unit_variance=unit_variance, masks=Masks(mask_bands, mask_frames)
        )
        self.least_variance = _LEAST_VARIANCE[features]
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        block = _BasicBlock if depth <= DEEPEST_BASIC else _Bottleneck
        stages, width_in = [], channels
        for stage, blocks in enumerate(BLOCKS[depth]):
            width = channels * 2**stage
            layers: list[nn.Module] = []
            for number in range(blocks):
                layers.append(block(width_in, width, 2 if stage > 0 and number == 0 else 1))
                width_in = width * block.widens
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.fc = nn.Linear(2 * width_in * n_mels // _SHRINKS, embedding_size)
        self.second: nn.Module = nn.Identity()
        if second_layer:
            self.second = nn.Sequential(
                nn.ReLU(),
                nn.BatchNorm1d(embedding_size, affine=False),
                nn.Linear(embedding_size, embedding_size),
            )

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ 1680 → (B, embedding_size).

        Raises ModelError for audio that is shorter.
        """
        check_audio(audio, self.least_samples)
        return self.embed(self.frontend(audio))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """(B, n_mels, T) → (B, embedding_size)."""
        maps = torch.relu(self.bn1(self.conv1(features.unsqueeze(1))))
        frames = wide(self.stages(maps).flatten(1, 2))  # (B, C * rows, T)
        deviation = (frames.var(dim=2) + self.least_variance).sqrt()
        return self.second(self.fc(torch.cat((frames.mean(dim=2), deviation), dim=1)))


class _BasicBlock(nn.Module):
    """Two 3 × 3 convolutions beside a shortcut."""

    widens = 1

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = _shortcut(channels_in, channels, stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, H, W) → (B, channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out = torch.relu(self.bn1(self.conv1(maps)))
        return torch.relu(self.bn2(self.conv2(out)) + self.shortcut(maps))


class _Bottleneck(nn.Module):
    """Convolutions of 1 × 1, 3 × 3 and 1 × 1 beside a shortcut; four times the channels leave."""

    widens = 4

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, self.widens * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(self.widens * channels)
        self.shortcut = _shortcut(channels_in, self.widens * channels, stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, H, W) → (B, 4 * channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out = torch.relu(self.bn1(self.conv1(maps)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return torch.relu(self.bn3(self.conv3(out)) + self.shortcut(maps))


def _shortcut(channels_in: int, channels: int, stride: int) -> nn.Module:
    if stride == 1 and channels_in == channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
    )
