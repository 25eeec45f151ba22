"""ReDimNet2: ReDimNet whose stages shorten the time axis too, and stretch what they give to full length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import nn

from models.networks.redimnet import check_stage, context_of
from models.options import ModelError, Within
from models.parts.frontend import HOP, check_audio
from models.parts.masks import Masks
from models.parts.pooling import ContextPooling
from models.parts.redim import (
    ChannelNorm,
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
    """One stage: what it divides rows and length by, its blocks and their kernel, channels, context."""

    stride: int
    time_stride: int
    blocks: int
    expansion: float
    kernel: tuple[int, int]
    """(rows, frames); only ConvNeXt blocks heed it."""
    reduction: int
    """Channels of all the frames per channel of the context; 0: without context."""


@dataclass(frozen=True)
class _Size:
    channels: int
    stages: str
    pooled_channels: int


_SLIM = "1x1 2 2 3x3 {0}; 2x1 3 1 3x3 {0}; 1x2 4 1 3x3 {0}; 2x1 5 1 3x3 {0}; 1x2 4 1 3x3 {1}; 2x1 3 1 3x3 {1}"
_WIDE = "1x1 2 4 3x3 {0}; 2x1 3 3 3x3 {0}; 1x2 4 2 3x3 {0}; 2x1 5 1 3x3 {0}; 1x2 4 1 3x3 {1}; 2x1 3 1 3x3 {1}"
_LONG = "1x1 2 2 3x5 40; 2x1 3 1 3x5 30; 1x2 4 1 3x5 30; 3x1 5 1 3x5 20; 1x2 4 1 3x7 20; 2x1 3 1 3x7 10"
_TALL = "1x1 3 3 3x3 64; 2x1 4 2 3x3 64; 1x2 5 2 3x3 48; 2x1 5 1 3x3 48; 1x2 4 0.75 3x3 32; 2x1 3 0.5 3x3 24"

SIZES = {
    "b0": _Size(12, _SLIM.format(36, 18), 64),
    "b1": _Size(16, _SLIM.format(32, 16), 0),
    "b2": _Size(20, _LONG, 0),
    "b3": _Size(24, _WIDE.format(24, 24), 0),
    "b4": _Size(32, _WIDE.format(24, 24), 0),
    "b5": _Size(48, _WIDE.format(48, 32), 256),
    "b6": _Size(64, _TALL, 224),
}


class ReDimNet2(nn.Module):
    """ReDimNet with strides over time: each stage works at its own length, and gives full length again.

    Palabra AI, "ReDimNet2: scaling speaker verification via time-pooled dimension reshaping", Interspeech
    2026; given the same weights it computes what PalabraAI/redimnet2 computes. The sizes are those of
    their releases: 1.1 million weights at "b0", 12.4 million at "b6". (wespeaker's own b0 to b5 are without
    `pool_maps`, and all but b4 with `pooled_channels`.)

    size: "b0" to "b6", which says what the next three are where they are left at 0 or "".
    channels: before the first stage. stages: of each "ROWSxTIME blocks expansion KERNEL reduction",
    parted by semicolons: what it divides the rows (and multiplies the channels) and the length by, its
    number of blocks, how many times the channels a block has, the kernel of ConvNeXt blocks (rows x frames),
    and how many times fewer channels its context along time has (0: no context).
    pooled_channels: to which the frames are taken before pooling; -1: as they are. pool_maps: whether
    that is done with each row by itself, and the pooling sees a channel's rows side by side.

    n_mels: mel bands, which the strides of all stages divide. blocks: what they are; "resnet_se" also weighs
    rows. group_size: channels of a convolution's group. features: "tfmel" as all released weights were
    trained with, "mel" (both from 20 to 7600 Hz, with pre-emphasis), or "kaldi". unit_audio: whether
    audio is first brought to a mean of 0 and a deviation of 1. hop_length: samples between two frames.
    grouped_strides: whether the convolutions
    that shrink maps have as many groups as they can. two_outputs: whether a stage with a context also
    gives what it had before it. normed_outputs: whether what stages give is normalised, in as many groups
    as there are channels. context: what looks along time. pooling_context: whether the weights of the
    pooling see the utterance's mean and standard deviation. embedding_norm: batch normalisation of the
    embedding. embedding_size: dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment).
    """

    def __init__(
        self,
        *,
        size: Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6"] = "b2",
        channels: Annotated[int, Within(0, 1024)] = 0,
        stages: str = "",
        pooled_channels: Annotated[int, Within(-1, 8192)] = 0,
        pool_maps: bool = True,
        n_mels: Annotated[int, Within(1, 256)] = 72,
        blocks: Literal["resnet", "resnet_se", "convnext", "convnext_relu"] = "resnet",
        group_size: Annotated[int, Within(1, 1024)] = 1,
        features: Literal["mel", "tfmel", "kaldi"] = "tfmel",
        unit_audio: bool = True,
        hop_length: Annotated[int, Within(80, 400)] = HOP,
        grouped_strides: bool = True,
        two_outputs: bool = False,
        normed_outputs: bool = False,
        context: Literal["conv+attention", "attention", "conv", "linear"] = "conv+attention",
        pooling_context: bool = True,
        embedding_norm: bool = False,
        embedding_size: Annotated[int, Within(1, 8192)] = 192,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
    ) -> None:
        super().__init__()
        usual = SIZES[size]
        channels = channels or usual.channels
        pooled = max(0, pooled_channels or usual.pooled_channels)
        self.embedding_size = embedding_size
        self.frontend = redim_frontend(
            features, n_mels, Masks(mask_bands, mask_frames), unit_audio=unit_audio, hop=hop_length
        )
        self.conv = nn.Conv2d(1, channels, 3, padding=1)
        self.norm = ChannelNorm(channels)
        width, rows, self.time_stride = n_mels * channels, n_mels, 1
        groups = channels if normed_outputs else 0
        self.norm_frames = nn.GroupNorm(groups, width) if groups else nn.Identity()
        self.stages, outputs = nn.ModuleList(), 1
        for number, stage in enumerate(read_stages(stages or usual.stages)):
            if rows % stage.stride:
                raise ModelError(
                    f"stages: number {number + 1} has {rows} rows, and its stride of {stage.stride}"
                    " does not divide them"
                )
            rows //= stage.stride
            self.time_stride *= stage.time_stride
            made = _Stage(
                number,
                outputs,
                channels,
                rows,
                stage,
                self.time_stride,
                kind=blocks,
                group_size=group_size,
                context=context,
                grouped=grouped_strides,
                two_outputs=two_outputs,
                norm_groups=groups,
            )
            self.stages.append(made)
            channels *= stage.stride
            outputs += made.outputs
        self.weigh = WeighedSum(outputs, width)
        self.channels = channels if pool_maps else 0
        self.merge: nn.Module = nn.Identity()
        if pooled:
            self.merge = nn.Conv2d(channels, pooled, 1) if pool_maps else nn.Conv1d(width, pooled, 1)
        merged = pooled * (rows if pool_maps else 1) if pooled else width
        self.pooling = ContextPooling(merged, context=pooling_context)
        self.bn_pooled = nn.BatchNorm1d(self.pooling.output_size)
        self.fc = nn.Linear(self.pooling.output_size, embedding_size)
        self.bn_embedding = nn.BatchNorm1d(embedding_size) if embedding_norm else nn.Identity()
        # Two frames, of which one has no variance, and as many as all strides make one of.
        self.least_samples = least_audio(features, max(2, self.time_stride), hop_length)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ `least_samples` → (B, embedding_size).

        Raises ModelError for audio that is shorter.
        """
        check_audio(audio, self.least_samples)
        return self.embed(self.frontend(audio))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """(B, n_mels, T) → (B, embedding_size); frames beyond a multiple of all time strides are left out."""
        length = features.shape[2] // self.time_stride * self.time_stride
        if torch.compiler.is_exporting():  # a slice whose length is known only then cannot be written
            features = features.index_select(2, torch.arange(length, device=features.device))
        else:
            features = features[..., :length]
        outputs = [self.norm_frames(to_frames(self.norm(self.conv(features.unsqueeze(1)))))]
        for stage in self.stages:
            outputs.extend(stage(outputs))
        frames = self.weigh(outputs)
        if self.channels:
            frames = self.merge(to_maps(frames, self.channels)).flatten(1, 2)
        else:
            frames = self.merge(frames)
        return self.bn_embedding(self.fc(self.bn_pooled(self.pooling(frames))))


class _Stage(nn.Module):
    """Weighted sum of what was before → fewer rows and frames → blocks over maps → context → full length."""

    def __init__(
        self,
        number: int,
        inputs: int,
        channels: int,
        rows: int,
        stage: Stage,
        time_stride: int,
        *,
        kind: str,
        group_size: int,
        context: str,
        grouped: bool,
        two_outputs: bool,
        norm_groups: int,
    ) -> None:
        super().__init__()
        width = rows * stage.stride * channels
        inside, out = int(stage.stride * channels * stage.expansion), stage.stride * channels
        check_stage(number, inside, group_size)
        self.channels_in, self.time_stride = channels, time_stride
        self.outputs = 2 if two_outputs and stage.reduction else 1
        self.weigh = WeighedSum(inputs, width) if number else None
        stride, groups = (stage.stride, time_stride), math.gcd(channels, inside) if grouped else 1
        self.conv = nn.Conv2d(channels, inside, stride, stride=stride, groups=groups)
        self.blocks = nn.Sequential(
            *(map_block(kind, inside, rows, group_size, stage.kernel) for _ in range(stage.blocks))
        )
        self.squeeze: nn.Module = nn.Identity()
        if stage.expansion != 1:
            self.squeeze = nn.Sequential(nn.Conv2d(inside, out, 1), nn.BatchNorm2d(out, eps=_EPS))
        self.context = context_of(number, width, stage.reduction, context)
        self.norms = nn.ModuleList(
            nn.GroupNorm(norm_groups, width) if norm_groups else nn.Identity() for _ in range(self.outputs)
        )

    def forward(self, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Tensors (B, width, T), all that was given before → one or two of the same shape."""
        frames = inputs[0] if self.weigh is None else self.weigh(inputs)
        frames = to_frames(self.squeeze(self.blocks(self.conv(to_maps(frames, self.channels_in)))))
        given = [frames, self.context(frames)] if self.outputs == 2 else [self.context(frames)]
        return [norm(self._stretched(values)) for norm, values in zip(self.norms, given, strict=True)]

    def _stretched(self, frames: torch.Tensor) -> torch.Tensor:
        return frames.repeat_interleave(self.time_stride, dim=2) if self.time_stride > 1 else frames


def read_stages(text: str) -> list[Stage]:
    """ "1x1 2 2 3x3 36; 2x1 3 1 3x3 36" → stages. Raises ModelError."""
    found = []
    for number, part in enumerate(text.strip(" ;").split(";"), start=1):
        words = part.split()
        try:
            stride, time_stride = (int(word) for word in words[0].split("x"))
            rows, frames = (int(word) for word in words[3].split("x"))
            blocks, expansion, reduction = int(words[1]), float(words[2]), int(words[4])
            right = len(words) == 5 and 1 <= stride <= 8 and 1 <= time_stride <= 8 and 1 <= blocks <= 64
            right = right and 0.125 <= expansion <= 16 and 0 <= reduction <= 4096
            right = right and all(kernel % 2 and 1 <= kernel <= 31 for kernel in (rows, frames))
        except (ValueError, IndexError):
            right = False
        if not right:
            raise ModelError(
                f'stages: number {number} is "{part.strip()[:40]}"; a stage is "ROWSxTIME blocks expansion'
                ' KERNEL reduction", as in "1x1 2 2 3x3 36; 2x1 3 1 3x3 36"'
            )
        found.append(Stage(stride, time_stride, blocks, expansion, (rows, frames), reduction))
    return found
