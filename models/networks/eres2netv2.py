"""ERes2NetV2: a ResNet whose blocks hand parts of their channels on, and whose last stages are fused."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from models.options import ModelError, Within
from models.parts.fbank import kaldi_frontend
from models.parts.frontend import HOP, WINDOW, check_audio
from models.parts.masks import Masks
from models.parts.precision import wide

_BLOCKS = (3, 4, 6, 3)
_FUSING_STAGES = (2, 3)
_SHRINKS = 8
_REDUCTION = 4
_FULL_WIDTH = 64
"""`base_width` at which a part has as many channels as its stage."""

_HIGHEST = 20.0
_LEAST_VARIANCE = 1e-8


class ERes2NetV2(nn.Module):
    """Res2Net blocks, attentive fusion of neighbouring parts and of the last two stages, statistics pooling.

    Chen et al., "ERes2NetV2: boosting short-duration speaker verification performance
    with computational efficiency", Interspeech 2024; as 3D-Speaker (Apache licence 2.0)
    has it: given the same weights it computes what its `ERes2NetV2` computes on its own
    features, Kaldi's with their usual window. 17.8 million weights at its defaults.

    n_mels: mel bands, a multiple of 8. channels: of the first stage; each later one has
    twice as many. base_width: channels of a part, in 64ths of its stage's. scale: parts of a block.
    expansion: channels that leave a block, in multiples of its stage's. second_layer: a ReLU, a
    normalisation and another linear layer after the first, whose output is then the
    embedding. embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment). unit_variance:
    features have a deviation of 1 in each utterance, too.
    """

    least_samples = WINDOW + HOP * _SHRINKS
    """Two frames of the last stage: one has no variance."""

    def __init__(
        self,
        *,
        n_mels: Annotated[int, Within(8, 256)] = 80,
        channels: Annotated[int, Within(4, 1024)] = 64,
        base_width: Annotated[int, Within(1, 256)] = 26,
        scale: Annotated[int, Within(1, 16)] = 2,
        expansion: Annotated[int, Within(1, 8)] = 2,
        second_layer: bool = False,
        embedding_size: Annotated[int, Within(1, 8192)] = 192,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
        unit_variance: bool = False,
    ) -> None:
        super().__init__()
        if n_mels % _SHRINKS:
            near = n_mels // _SHRINKS * _SHRINKS
            raise ModelError(
                f"n_mels is {n_mels}: three strides of 2 must divide it; give {near} or {near + _SHRINKS}"
            )
        if channels * base_width // _FULL_WIDTH < _REDUCTION:
            least = -(-_REDUCTION * _FULL_WIDTH // channels)
            raise ModelError(
                f"base_width is {base_width}: with {channels} channels a part has fewer than {_REDUCTION};"
                f" give {least} or more"
            )
        self.embedding_size = embedding_size
        self.frontend = kaldi_frontend(
            "3d-speaker", n_mels, unit_variance=unit_variance, masks=Masks(mask_bands, mask_frames)
        )
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        stages, width_in = [], channels
        for stage, blocks in enumerate(_BLOCKS):
            inside, out = channels * 2**stage, channels * 2**stage * expansion
            layers: list[nn.Module] = []
            for number in range(blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                part = inside * base_width // _FULL_WIDTH
                layers.append(_Block(width_in, part, out, scale, stride, fuse=stage in _FUSING_STAGES))
                width_in = out
            stages.append(nn.Sequential(*layers))
        self.stages = nn.ModuleList(stages)
        self.shrink = nn.Conv2d(width_in // 2, width_in, 3, stride=2, padding=1, bias=False)
        self.fuse = _Fusion(width_in)
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
        for stage in self.stages:
            before, maps = maps, stage(maps)
        frames = wide(self.fuse(maps, self.shrink(before)).flatten(1, 2))  # (B, C * rows, T)
        deviation = (frames.var(dim=2) + _LEAST_VARIANCE).sqrt()
        return self.second(self.fc(torch.cat((frames.mean(dim=2), deviation), dim=1)))


class _Block(nn.Module):
    """1 × 1 convolution into parts; of each a 3 × 3, which sees the one before it; 1 × 1; a shortcut beside.

    fuse: the part before is not added, but weighed with the part by a fusion.
    """

    def __init__(
        self, channels_in: int, part: int, channels: int, scale: int, stride: int, *, fuse: bool
    ) -> None:
        super().__init__()
        self.scale = scale
        self.conv1 = nn.Conv2d(channels_in, part * scale, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(part * scale)
        self.convs = nn.ModuleList(nn.Conv2d(part, part, 3, padding=1, bias=False) for _ in range(scale))
        self.bns = nn.ModuleList(nn.BatchNorm2d(part) for _ in range(scale))
        self.fusions = nn.ModuleList(_Fusion(part) for _ in range(scale - 1)) if fuse else None
        self.conv3 = nn.Conv2d(part * scale, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, channels_in, H, W) → (B, channels, ⌈H / stride⌉, ⌈W / stride⌉)."""
        parts = _clip(self.bn1(self.conv1(maps))).chunk(self.scale, dim=1)
        done: list[torch.Tensor] = []
        for number, part in enumerate(parts):
            if done:
                part = self.fusions[number - 1](done[-1], part) if self.fusions else done[-1] + part
            done.append(_clip(self.bns[number](self.convs[number](part))))
        return _clip(self.bn3(self.conv3(torch.cat(done, dim=1))) + self.shortcut(maps))


class _Fusion(nn.Module):
    """Of two maps of one shape a sum, whose weights (together 2) both of them give for every point."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // _REDUCTION
        self.attention = nn.Sequential(
            nn.Conv2d(2 * channels, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.SiLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Two tensors (B, channels, H, W) → one of the same shape."""
        leaning = torch.tanh(self.attention(torch.cat((first, second), dim=1)))
        return first * (1 + leaning) + second * (1 - leaning)


def _clip(maps: torch.Tensor) -> torch.Tensor:
    """ReLU that ends at 20, as all but the first are here."""
    return F.hardtanh(maps, 0.0, _HIGHEST)
