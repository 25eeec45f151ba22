"""SimAM-ResNet: residual blocks that weigh each element of a map by how far it stands out."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import nn

from models.options import ModelError, Within
from models.parts.fbank import KaldiFrontEnd
from models.parts.masks import Masks
from models.parts.pooling import ChannelAttentivePooling
from models.parts.precision import wide

BLOCKS = {34: (3, 4, 6, 3), 100: (6, 16, 24, 3)}
"""Depth → blocks of each stage."""

_SHRINKS = 8
_LAMBDA = 1e-4
"""Keeps the weights of a map without variance finite."""


class SimAMResNet(nn.Module):
    """ResNet-34 or -100 with simple attention and channel-wise attentive statistics.

    Qin et al., "Simple attention module based speaker verification with iterative noisy
    label detection", ICASSP 2022, over Yang et al., "SimAM", ICML 2021; as wespeaker
    (Apache licence 2.0) has it: given the same weights it computes what its
    `SimAM_ResNet34_ASP` and `SimAM_ResNet100_ASP` compute on Kaldi's features. 25.2
    million weights at 34 layers, 50.2 million at 100.

    depth: 34 or 100 layers. n_mels: mel bands, a multiple of 8. channels: of the first
    stage; each later one has twice as many. embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment). unit_variance:
    features have a deviation of 1 in each utterance, too.
    """

    def __init__(
        self,
        *,
        depth: Annotated[int, Within(34, 100)] = 34,
        n_mels: Annotated[int, Within(8, 256)] = 80,
        channels: Annotated[int, Within(4, 1024)] = 64,
        embedding_size: Annotated[int, Within(1, 8192)] = 256,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
        unit_variance: bool = False,
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
        self.frontend = KaldiFrontEnd(
            n_mels, normalise="unit" if unit_variance else "mean", masks=Masks(mask_bands, mask_frames)
        )
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        stages, width_in = [], channels
        for stage, blocks in enumerate(BLOCKS[depth]):
            width = channels * 2**stage
            layers: list[nn.Module] = []
            for number in range(blocks):
                layers.append(_Block(width_in, width, 2 if stage > 0 and number == 0 else 1))
                width_in = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.pooling = ChannelAttentivePooling(width_in * n_mels // _SHRINKS, deviation=True)
        self.fc = nn.Linear(self.pooling.output_size, embedding_size)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ 400 → (B, embedding_size).

        Raises ModelError for audio that is shorter than one window of 25 ms.
        """
        return self.embed(self.frontend(audio))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """(B, n_mels, T) → (B, embedding_size)."""
        maps = torch.relu(self.bn1(self.conv1(features.unsqueeze(1))))
        return self.fc(self.pooling(self.stages(maps).flatten(1, 2)))


class _Block(nn.Module):
    """Two 3 × 3 convolutions and the attention beside a shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, H, W) → (B, channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        out = torch.relu(self.bn1(self.conv1(maps)))
        return torch.relu(stand_out(self.bn2(self.conv2(out))) + self.shortcut(maps))


def stand_out(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W): each element times one in (0, 1) that grows with its distance from the mean."""
    exact = wide(maps)
    square = (exact - exact.mean(dim=(2, 3), keepdim=True)).square()
    # A map of one element has no variance: its square is 0 too.
    variance = square.sum(dim=(2, 3), keepdim=True) / max(maps.shape[2] * maps.shape[3] - 1, 1)
    return maps * torch.sigmoid(square / (4 * (variance + _LAMBDA)) + 0.5).to(maps.dtype)
