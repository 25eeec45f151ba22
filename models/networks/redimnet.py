"""ReDimNet: convolutions over maps and attention along time take turns on the same feature maps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import nn

from models.options import ModelError, Within
from models.parts.frontend import HOP, check_audio
from models.parts.masks import Masks
from models.parts.pooling import ContextPooling
from models.parts.redim import (
    ChannelNorm,
    TimeContext,
    WeighedSum,
    least_audio,
    map_block,
    redim_frontend,
    to_frames,
    to_maps,
)

_EPS = 1e-6


@dataclass(frozen=True)
class Stage:
    """One stage: what it divides the rows by, its blocks, the channels that those have more, its context."""

    stride: int
    blocks: int
    expansion: float
    reduction: int
    """Channels of all the frames per channel of the context; 0: without context."""


@dataclass(frozen=True)
class _Size:
    n_mels: int
    channels: int
    blocks: str
    group_size: int
    stages: str


_SIZES = {
    "b0": _Size(60, 10, "resnet", 1, "1 2 1 30; 2 3 2 30; 1 3 3 30; 2 4 2 10; 1 3 1 10"),
    "b1": _Size(72, 12, "convnext", 8, "1 2 1 0; 2 3 1 0; 3 4 1 12; 2 5 1 12; 2 3 1 8"),
    "b2": _Size(72, 16, "convnext", 4, "1 2 1 12; 2 2 1 12; 1 3 1 12; 2 4 1 8; 1 4 1 8; 2 4 1 4"),
    "b3": _Size(72, 16, "resnet_se", 1, "1 6 4 32; 2 6 2 32; 1 8 2 32; 2 10 2 16; 1 10 1 16; 2 8 1 16"),
    "b4": _Size(72, 32, "resnet_se", 1, "1 4 2 48; 2 4 2 48; 1 6 2 48; 2 6 1 32; 1 8 1 24; 2 4 1 16"),
    "b5": _Size(72, 32, "resnet_se", 16, "1 4 2 48; 2 4 2 48; 1 6 2 48; 2 6 1 32; 1 8 1 24; 2 4 1 16"),
    "b6": _Size(72, 32, "resnet", 32, "1 4 4 32; 2 6 2 32; 1 6 2 24; 3 8 1 24; 1 8 1 16; 2 8 1 16"),
}


class ReDimNet(nn.Module):
    """Stages that turn rows into channels, each fed a weighted sum of all outputs before it.

    Yakovlev et al., "Reshape dimensions network for speaker recognition", Interspeech
    2024; given the same weights it computes what IDRnD/ReDimNet (MIT licence) computes. 1.0 million
    weights at "b0", 15 million at "b6": the sizes are those that wespeaker lists. (The released weights
    were trained with a `hop_length` of 240, and their b2 has 5.1 million; their files say so.)

    size: "b0" to "b6", which says what the next five are where they are left at 0, "" or "size".
    n_mels: mel bands, which the strides of all stages divide. channels: before the first stage.
    stages: of each "stride blocks expansion reduction", parted by semicolons: what it divides the
    rows by (and multiplies the channels by), its number of blocks, how many times the channels a block
    has, and how many times fewer channels its context along time has (0: no context). blocks:
    what they are; "resnet_se" also weighs rows. group_size: channels of a convolution's group.

    features: "mel" (20 to 7600 Hz, pre-emphasis) as the original's, its "tfmel", or "kaldi". unit_audio:
    whether audio is first brought to a mean of 0 and a deviation of 1. hop_length: samples between two
    frames. context: what looks along time. pooled_channels: to which the frames are taken before pooling; 0:
    as they are. pooling_context: whether the weights of the pooling see the utterance's mean and standard
    deviation. pooled_norm: batch normalisation of what is pooled, which wespeaker's is without.
    embedding_norm: batch normalisation of the embedding. embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment).
    """

    def __init__(
        self,
        *,
        size: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6"] = "b2",
        n_mels: Annotated[int, Within(0, 256)] = 0,
        channels: Annotated[int, Within(0, 1024)] = 0,
        stages: str = "",
        blocks: Literal["size", "resnet", "resnet_se", "convnext", "convnext_relu"] = "size",
        group_size: Annotated[int, Within(0, 1024)] = 0,
        features: Literal["mel", "tfmel", "kaldi"] = "mel",
        unit_audio: bool = False,
        hop_length: Annotated[int, Within(80, 400)] = HOP,
        context: Literal["conv+attention", "attention", "conv", "linear"] = "conv+attention",
        pooled_channels: Annotated[int, Within(0, 8192)] = 0,
        pooling_context: bool = True,
        pooled_norm: bool = True,
        embedding_norm: bool = False,
        embedding_size: Annotated[int, Within(1, 8192)] = 192,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
    ) -> None:
        super().__init__()
        usual = _SIZES[size]
        n_mels, channels = n_mels or usual.n_mels, channels or usual.channels
        group_size, kind = group_size or usual.group_size, usual.blocks if blocks == "size" else blocks
        self.embedding_size = embedding_size
        self.frontend = redim_frontend(
            features, n_mels, Masks(mask_bands, mask_frames), unit_audio=unit_audio, hop=hop_length
        )
        self.least_samples = least_audio(features, 2, hop_length)  # one frame has no variance
        self.conv = nn.Conv2d(1, channels, 3, padding=1)
        self.norm = ChannelNorm(channels)
        width, rows = n_mels * channels, n_mels
        self.stages = nn.ModuleList()
        for number, stage in enumerate(read_stages(stages or usual.stages)):
            if rows % stage.stride:
                raise ModelError(
                    f"stages: number {number + 1} has {rows} rows, and its stride of {stage.stride}"
                    " does not divide them"
                )
            rows //= stage.stride
            self.stages.append(
                _Stage(number, channels, rows, stage, kind=kind, group_size=group_size, context=context)
            )
            channels *= stage.stride
        self.weigh = WeighedSum(len(self.stages) + 1, width)
        self.merge: nn.Module = nn.Identity()
        if pooled_channels:
            self.merge = nn.Sequential(nn.Conv1d(width, pooled_channels, 1), nn.BatchNorm1d(pooled_channels))
        self.pooling = ContextPooling(pooled_channels or width, context=pooling_context)
        self.bn_pooled = nn.BatchNorm1d(self.pooling.output_size) if pooled_norm else nn.Identity()
        self.fc = nn.Linear(self.pooling.output_size, embedding_size)
        self.bn_embedding = nn.BatchNorm1d(embedding_size) if embedding_norm else nn.Identity()

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ `least_samples` → (B, embedding_size).

        Raises ModelError for audio that is shorter.
        """
        check_audio(audio, self.least_samples)
        return self.embed(self.frontend(audio))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """(B, n_mels, T) → (B, embedding_size)."""
        outputs = [to_frames(self.norm(self.conv(features.unsqueeze(1))))]
        for stage in self.stages:
            outputs.append(stage(outputs))
        frames = self.merge(self.weigh(outputs))
        return self.bn_embedding(self.fc(self.bn_pooled(self.pooling(frames))))


class _Stage(nn.Module):
    """Weighted sum of what was before → fewer rows, more channels → blocks over maps → context along time."""

    def __init__(
        self, number: int, channels: int, rows: int, stage: Stage, *, kind: str, group_size: int, context: str
    ) -> None:
        super().__init__()
        width = rows * stage.stride * channels
        inside, out = int(stage.stride * channels * stage.expansion), stage.stride * channels
        check_stage(number, inside, group_size)
        self.channels_in = channels
        self.weigh = WeighedSum(number + 1, width) if number else None
        self.conv = nn.Conv2d(channels, inside, (stage.stride, 1), stride=(stage.stride, 1))
        self.blocks = nn.Sequential(
            *(map_block(kind, inside, rows, group_size, (3, 3)) for _ in range(stage.blocks))
        )
        self.squeeze: nn.Module = nn.Identity()
        if stage.expansion != 1:
            check_stage(number, out, group_size)
            if inside % (out // group_size):
                raise ModelError(
                    f"stages: number {number + 1}: an expansion of {stage.expansion:g} makes {inside}"
                    f" channels, no multiple of the {out // group_size} groups that take them back to {out}"
                )
            self.squeeze = nn.Sequential(
                nn.Conv2d(inside, out, 3, padding=1, groups=out // group_size),
                nn.BatchNorm2d(out, eps=_EPS),
                nn.GELU(),
                nn.Conv2d(out, out, 1),
            )
        self.context = context_of(number, width, stage.reduction, context)

    def forward(self, outputs: list[torch.Tensor]) -> torch.Tensor:
        """Tensors (B, width, T), of every stage before → one of the same shape."""
        frames = outputs[0] if self.weigh is None else self.weigh(outputs)
        maps = self.squeeze(self.blocks(self.conv(to_maps(frames, self.channels_in))))
        return self.context(to_frames(maps))


def read_stages(text: str) -> list[Stage]:
    """ "1 2 1 30; 2 3 2 30" → stages. Raises ModelError."""
    found = []
    for number, part in enumerate(text.strip(" ;").split(";"), start=1):
        words = part.split()
        try:
            stride, blocks, reduction = int(words[0]), int(words[1]), int(words[3])
            expansion = float(words[2])
            right = len(words) == 4 and 1 <= stride <= 8 and 1 <= blocks <= 64
            right = right and 0.125 <= expansion <= 16 and 0 <= reduction <= 4096
        except (ValueError, IndexError):
            right = False
        if not right:
            raise ModelError(
                f'stages: number {number} is "{part.strip()[:40]}"; a stage is "stride blocks expansion'
                ' reduction", as in "1 2 1 30; 2 3 2 30"'
            )
        found.append(Stage(stride, blocks, expansion, reduction))
    return found


def check_stage(number: int, channels: int, group_size: int) -> None:
    """Raise ModelError when groups of `group_size` do not part the channels of stage `number` (from 0)."""
    if channels < group_size or channels % (channels // group_size):
        raise ModelError(f"stages: number {number + 1} has {channels} channels: no groups of {group_size}")


def context_of(number: int, width: int, reduction: int, kind: str) -> nn.Module:
    """The context along time of stage `number` (from 0), or nothing where `reduction` is 0."""
    if not reduction:
        return nn.Identity()
    hidden = width // reduction
    if hidden < 4 or (kind.endswith("attention") and hidden % 4):
        raise ModelError(
            f"stages: number {number + 1}: a reduction of {reduction} leaves {hidden} of {width} channels,"
            " and attention shares them among 4 heads"
        )
    return TimeContext(width, hidden, kind)
