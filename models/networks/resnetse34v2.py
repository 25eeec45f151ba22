"""ResNetSE34V2: the VoxCeleb trainer's larger residual network."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import nn

from models.options import ModelError, Within
from models.parts.blocks import SEBasicBlock
from models.parts.frontend import MelFrontEnd
from models.parts.masks import Masks
from models.parts.pooling import ChannelAttentivePooling

_BLOCKS = (3, 4, 6, 3)
_SHRINKS = 8
"""So many times fewer rows leave the last stage than mel bands enter the first."""


class ResNetSE34V2(nn.Module):
    """ResNet-34 with squeeze-excitation at half the usual channels, 8.0 million weights at its defaults.

    Heo et al., "Clova baseline system for the VoxCeleb Speaker Recognition
    Challenge 2020", 2020, arXiv 2009.14153, as the VoxCeleb trainer (MIT licence) has it: given
    the same weights it computes what its `ResNetSE34V2` computes, with `SAP` or `ASP`.

    n_mels: mel bands, a multiple of 8. pooling: "sap" (mean) or "asp" (mean and
    standard deviation), with a weight for each channel and frame. log_input: logarithm
    of the mel energies. channels: of the first stage; each later one has twice as
    many. embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment).
    """

    def __init__(
        self,
        *,
        n_mels: Annotated[int, Within(8, 256)] = 64,
        pooling: Literal["sap", "asp"] = "asp",
        log_input: bool = True,
        channels: Annotated[int, Within(8, 1024)] = 32,
        embedding_size: Annotated[int, Within(1, 8192)] = 512,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
    ) -> None:
        super().__init__()
        if n_mels % _SHRINKS:
            near = n_mels // _SHRINKS * _SHRINKS
            raise ModelError(
                f"n_mels is {n_mels}: three strides of 2 must divide it; give {near} or {near + _SHRINKS}"
            )
        self.embedding_size = embedding_size
        self.frontend = MelFrontEnd(
            n_mels, log_input=log_input, preemphasis=True, masks=Masks(mask_bands, mask_frames)
        )
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        widths = [channels * 2**stage for stage in range(len(_BLOCKS))]
        self.stages = nn.Sequential(
            *(
                _stage(widths[max(stage - 1, 0)], width, blocks, stride=1 if stage == 0 else 2)
                for stage, (width, blocks) in enumerate(zip(widths, _BLOCKS, strict=True))
            )
        )
        rows = n_mels // _SHRINKS
        self.pooling = ChannelAttentivePooling(widths[-1] * rows, deviation=pooling == "asp")
        self.fc = nn.Linear(self.pooling.output_size, embedding_size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ 400 → (B, embedding_size).

        Raises ModelError for audio that is shorter than one window of 25 ms.
        """
        maps = self.frontend(audio).unsqueeze(1)
        maps = self.stages(self.bn1(torch.relu_(self.conv1(maps))))
        return self.fc(self.pooling(maps.flatten(1, 2)))


def _stage(channels_in: int, channels: int, blocks: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        SEBasicBlock(channels_in, channels, stride),
        *(SEBasicBlock(channels, channels) for _ in range(blocks - 1)),
    )
