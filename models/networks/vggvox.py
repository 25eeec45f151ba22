"""VGGVox: the convolutional network of the VoxCeleb papers, over 40 mel bands."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import nn

from models.options import Within
from models.parts.frontend import HOP, MelFrontEnd, check_audio
from models.parts.masks import Masks
from models.parts.maxpool import MaxPool
from models.parts.pooling import SelfAttentivePooling
from models.parts.precision import wide

_N_MELS = 40
"""The kernels and poolings make one row of just so many bands."""

_CHANNELS = 512
_LEAST_FEATURE_FRAMES = 63
"""What the strides leave one frame of."""


class VGGVox(nn.Module):
    """VGG-M over log-mel features, 4.0 million weights with "sap" and 512 dimensions.

    Nagrani, Chung and Zisserman, "VoxCeleb: a large-scale speaker identification
    dataset", Interspeech 2017, as the VoxCeleb trainer (MIT licence) has it: given
    the same weights it computes what its `VGGVox` computes, with `SAP`, `TAP` or
    `MAX`.

    pooling: over time: "sap" (mean with attention), "tap" (mean) or "max". log_input: logarithm of
    the mel energies. embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment).
    """

    least_samples = (_LEAST_FEATURE_FRAMES - 1) * HOP
    """The shortest audio it takes."""

    def __init__(
        self,
        *,
        pooling: Literal["sap", "tap", "max"] = "sap",
        log_input: bool = True,
        embedding_size: Annotated[int, Within(1, 8192)] = 1024,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.pooling = pooling
        self.frontend = MelFrontEnd(
            _N_MELS, log_input=log_input, window="hann", masks=Masks(mask_bands, mask_frames)
        )
        self.layers = nn.Sequential(
            *_layer(1, 96, (5, 7), stride=(1, 2), padding=(2, 2)),
            MaxPool((1, 3), stride=(1, 2)),
            *_layer(96, 256, (5, 5), stride=(2, 2), padding=(1, 1)),
            MaxPool((3, 3), stride=(2, 2)),
            *_layer(256, 384, (3, 3), padding=(1, 1)),
            *_layer(384, 256, (3, 3), padding=(1, 1)),
            *_layer(256, 256, (3, 3), padding=(1, 1)),
            MaxPool((3, 3), stride=(2, 2)),
            *_layer(256, _CHANNELS, (4, 1)),
        )
        self.attention = SelfAttentivePooling(_CHANNELS) if pooling == "sap" else None
        self.fc = nn.Linear(_CHANNELS, embedding_size)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ 9920 → (B, embedding_size).

        Raises ModelError for audio that is shorter.
        """
        check_audio(audio, self.least_samples)
        maps = self.layers(self.frontend(audio).unsqueeze(1)).squeeze(2)  # (B, C, T)
        if self.attention is not None:
            return self.fc(self.attention(maps.transpose(1, 2)))
        return self.fc(maps.amax(dim=2) if self.pooling == "max" else wide(maps).mean(dim=2))


def _layer(
    channels_in: int,
    channels: int,
    kernel: tuple[int, int],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
) -> list[nn.Module]:
    convolution = nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=padding)
    return [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
