"""Fast ResNet-34: the VoxCeleb trainer's small residual network."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import nn

from models.options import Within
from models.parts.blocks import SEBasicBlock
from models.parts.frontend import MelFrontEnd
from models.parts.masks import Masks
from models.parts.pooling import AttentiveStatisticsPooling, SelfAttentivePooling

_POOLINGS: dict[str, type[SelfAttentivePooling] | type[AttentiveStatisticsPooling]] = {
    "sap": SelfAttentivePooling,
    "asp": AttentiveStatisticsPooling,
}

_STEM_CHANNELS = 16
_STAGES = ((16, 3, 1), (32, 4, 2), (64, 6, 2), (128, 3, 1))
"""(channels, blocks, stride of the first block) of each stage."""


class ResNetSE34L(nn.Module):
    """Fast ResNet-34 with squeeze-excitation, 1.4 million weights at its defaults.

    Chung et al., "In defence of metric learning for speaker recognition",
    Interspeech 2020: the 34 layers of ResNet-34 at a quarter of the channels, over
    log-mel features normalised per utterance. Given the same weights it computes
    what `ResNetSE34L` of the VoxCeleb trainer computes, with its `SAP` or `ASP`.

    n_mels: mel bands. log_input: logarithm of the mel energies. pooling: "sap"
    (mean) or "asp" (mean and standard deviation), both with attention.
    embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment).
    """

    def __init__(
        self,
        *,
        n_mels: Annotated[int, Within(8, 257)] = 40,
        log_input: bool = True,
        pooling: Literal["sap", "asp"] = "sap",
        embedding_size: Annotated[int, Within(1, 8192)] = 512,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
    ) -> None:
        super().__init__()
        self.embedding_size = embedding_size
        self.frontend = MelFrontEnd(n_mels, log_input=log_input, masks=Masks(mask_bands, mask_frames))
        self.conv1 = nn.Conv2d(1, _STEM_CHANNELS, 7, stride=(2, 1), padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(_STEM_CHANNELS)
        channels_in = _STEM_CHANNELS
        stages = []
        for channels, blocks, stride in _STAGES:
            first = SEBasicBlock(channels_in, channels, stride)
            stages.append(
                nn.Sequential(first, *(SEBasicBlock(channels, channels) for _ in range(blocks - 1)))
            )
            channels_in = channels
        self.stages = nn.Sequential(*stages)
        pool = _POOLINGS[pooling](channels_in)
        self.pooling = pool
        self.fc = nn.Linear(pool.output_size, embedding_size)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, frames) in [-1, 1), frames ≥ 400 → (B, embedding_size).

        Raises ModelError for audio that is shorter than one window of 25 ms.
        """
        maps = self.frontend(audio).unsqueeze(1)
        maps = torch.relu_(self.bn1(self.conv1(maps)))
        maps = self.stages(maps)
        frames = maps.mean(dim=2).transpose(1, 2)  # (B, T, C): the mean over the mel axis
        return self.fc(self.pooling(frames))
