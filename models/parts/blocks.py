"""Squeeze-and-excitation residual blocks (Hu et al., "Squeeze-and-excitation networks", 2018)."""

from __future__ import annotations

import torch
from torch import nn

_REDUCTION = 8
"""Channels of a block per hidden unit of its excitation, as in the VoxCeleb trainer."""


class SqueezeExcitation(nn.Module):
    """Scales each channel by a number in (0, 1) computed from all the channels' means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // _REDUCTION)
        self.excite = nn.Linear(channels // _REDUCTION, channels)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → the same shape."""
        # As a mean, but its gradient divides C numbers a row, where mean()'s divides all C * H * W.
        means = maps.sum(dim=(2, 3)) / (maps.shape[2] * maps.shape[3])
        gates = torch.sigmoid(self.excite(torch.relu(self.squeeze(means))))
        return maps * gates[:, :, None, None]


class SEBasicBlock(nn.Module):
    """Two 3 × 3 convolutions and a squeeze-excitation beside a shortcut.

    The first half is convolution → ReLU → batch normalisation, not the usual
    convolution → batch normalisation → ReLU: the VoxCeleb trainer's block has
    this order, and so have all weights trained with it.

    stride: of the first convolution and of the shortcut, in both directions.
    """

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.se = SqueezeExcitation(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, H, W) → (B, channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        # In place: nothing else needs what they overwrite, and memory is what these blocks wait for.
        out = self.bn1(torch.relu_(self.conv1(maps)))
        out = self.se(self.bn2(self.conv2(out)))
        return torch.relu_(out + self.shortcut(maps))
