"""A small time-delay network that trains in a minute or two on two CPU cores: for demos and for tests."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import nn

from models.options import Within
from models.parts.frontend import MelFrontEnd
from models.parts.masks import Masks
from models.parts.pooling import StatisticsPooling


class TDNN(nn.Module):
    """Dilated 1-D convolutions over log-mel features, statistics pooling, one linear layer.

    The x-vector layout of Snyder et al., "X-vectors: robust DNN embeddings for
    speaker recognition", 2018, made small: fewer channels, and every second
    feature frame dropped by the first convolution, which halves the work of all
    that follow.

    n_mels: mel bands. channels: of every convolution. embedding_size: dimensions
    of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment).
    """

    def __init__(
        self,
        *,
        n_mels: Annotated[int, Within(8, 257)] = 40,
        channels: Annotated[int, Within(1, 2048)] = 128,
        embedding_size: Annotated[int, Within(1, 8192)] = 128,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.frontend = MelFrontEnd(n_mels, unit_variance=False, masks=Masks(mask_bands, mask_frames))
        self.layers = nn.Sequential(
            *_layer(n_mels, channels, kernel=5, stride=2),
            *_layer(channels, channels, kernel=3),
            *_layer(channels, channels, kernel=3, dilation=2),
            *_layer(channels, channels, kernel=3, dilation=3),
            *_layer(channels, 2 * channels, kernel=1),
        )
        self.pooling = StatisticsPooling(2 * channels)
        self.bn = nn.BatchNorm1d(self.pooling.output_size)
        self.fc = nn.Linear(self.pooling.output_size, embedding_size)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, frames) in [-1, 1), frames ≥ 400 → (B, embedding_size).

        Raises ModelError for audio that is shorter than one window of 25 ms.
        """
        frames = self.layers(self.frontend(audio))  # (B, C, T)
        return self.fc(self.bn(self.pooling(frames.transpose(1, 2))))


def _layer(
    channels_in: int, channels: int, *, kernel: int, stride: int = 1, dilation: int = 1
) -> list[nn.Module]:
    """Convolution, ReLU, batch normalisation: the x-vector order. Padded, so that any length goes through."""
    padding = dilation * (kernel // 2)
    convolution = nn.Conv1d(channels_in, channels, kernel, stride=stride, dilation=dilation, padding=padding)
    return [convolution, nn.ReLU(), nn.BatchNorm1d(channels)]
