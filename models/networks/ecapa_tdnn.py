"""ECAPA-TDNN: time-delay blocks with channel attention, all of whose outputs are pooled together."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import nn

from models.options import ModelError, Within
from models.parts.fbank import KaldiFrontEnd
from models.parts.frontend import HOP, WINDOW, check_audio
from models.parts.masks import Masks
from models.parts.pooling import ContextPooling

_SCALE = 8
_FRAMES = 1536
"""Channels that are pooled over time."""

_BOTTLENECK = 128


class ECAPATDNN(nn.Module):
    """Emphasised channel attention, propagation and aggregation in a TDNN.

    Desplanques et al., "ECAPA-TDNN", Interspeech 2020, as wespeaker (Apache
    licence 2.0) has it: given the same weights it computes what its `ECAPA_TDNN` does on
    Kaldi's features. 6.2 million weights with 512 channels, 14.7 million with 1024.

    n_mels: mel bands. channels: of each block, a multiple of 8. context: whether the
    weights of the pooling see the utterance's mean and standard deviation.
    embedding_norm: batch normalisation of the embedding. embedding_size: dimensions
    of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment). unit_variance:
    features have a deviation of 1 in each utterance, too.
    """

    def __init__(
        self,
        *,
        n_mels: Annotated[int, Within(8, 256)] = 80,
        channels: Annotated[int, Within(8, 4096)] = 512,
        context: bool = True,
        embedding_norm: bool = False,
        embedding_size: Annotated[int, Within(1, 8192)] = 192,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
        unit_variance: bool = False,
    ) -> None:
        super().__init__()
        if channels % _SCALE:
            near = channels // _SCALE * _SCALE
            raise ModelError(
                f"channels is {channels}: blocks part them into {_SCALE}; give {near} or {near + _SCALE}"
            )
        self.embedding_size = embedding_size
        self.least_samples = WINDOW + HOP * context  # one frame has no variance
        self.frontend = KaldiFrontEnd(
            n_mels, normalise="unit" if unit_variance else "mean", masks=Masks(mask_bands, mask_frames)
        )
        self.layer1 = _Layer(n_mels, channels, kernel=5)
        self.blocks = nn.ModuleList(_Block(channels, dilation) for dilation in (2, 3, 4))
        self.merge = nn.Conv1d(3 * channels, _FRAMES, 1)
        self.pooling = ContextPooling(_FRAMES, context=context)
        self.bn_pooled = nn.BatchNorm1d(self.pooling.output_size)
        self.fc = nn.Linear(self.pooling.output_size, embedding_size)
        self.bn_embedding = nn.BatchNorm1d(embedding_size) if embedding_norm else nn.Identity()

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ 560 (400 without `context`) → (B, embedding_size).

        Raises ModelError for audio that is shorter.
        """
        check_audio(audio, self.least_samples)
        return self.embed(self.frontend(audio))

    def embed(self, features: torch.Tensor) -> torch.Tensor:
        """(B, n_mels, T) → (B, embedding_size)."""
        frames = self.layer1(features)
        outputs = []
        for block in self.blocks:
            frames = block(frames)
            outputs.append(frames)
        frames = torch.relu(self.merge(torch.cat(outputs, dim=1)))
        return self.bn_embedding(self.fc(self.bn_pooled(self.pooling(frames))))


class _Layer(nn.Module):
    """Convolution → ReLU → batch normalisation, at the same length."""

    def __init__(self, channels_in: int, channels: int, *, kernel: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, channels, kernel, padding=kernel // 2)
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.bn(torch.relu(self.conv(frames)))


class _Res2Layer(nn.Module):
    """One eighth of the channels a convolution, every one seeing the one before; the last eighth passes."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // _SCALE
        self.convs = nn.ModuleList(
            nn.Conv1d(width, width, 3, dilation=dilation, padding=dilation) for _ in range(_SCALE - 1)
        )
        self.bns = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(_SCALE - 1))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        *parts, last = frames.chunk(_SCALE, dim=1)
        done: list[torch.Tensor] = []
        for part, convolve, normalise in zip(parts, self.convs, self.bns, strict=True):
            before = done[-1] + part if done else part
            done.append(normalise(torch.relu(convolve(before))))
        return torch.cat((*done, last), dim=1)


class _Block(nn.Module):
    """Layer, Res2Net layer, layer, and squeeze-excitation, beside a shortcut."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.layer1 = _Layer(channels, channels)
        self.res2 = _Res2Layer(channels, dilation)
        self.layer2 = _Layer(channels, channels)
        self.squeeze = nn.Linear(channels, _BOTTLENECK)
        self.excite = nn.Linear(_BOTTLENECK, channels)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → the same shape."""
        out = self.layer2(self.res2(self.layer1(frames)))
        gates = torch.sigmoid(self.excite(torch.relu(self.squeeze(out.mean(dim=2)))))
        return frames + out * gates.unsqueeze(2)
