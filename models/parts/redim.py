"""Parts of reshape-dimensions networks (Yakovlev et al., "Reshape dimensions network", Interspeech 2024).

Their feature maps have two shapes of the same size: *maps* (B, channels, rows, T) for convolutions over
frequency and time, and *frames* (B, rows * channels, T) for what looks along time alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from models.options import ModelError
from models.parts.fbank import KaldiFrontEnd
from models.parts.frontend import WINDOW, MelFrontEnd
from models.parts.masks import Masks
from models.parts.tfmel import TFMelFrontEnd, UnitAudio

_HEADS = 4
_EPS = 1e-6
_AUDIO_FLOOR = {"mel": 1e-6, "tfmel": 1e-8, "kaldi": 1e-8}
"""Beside the deviation that audio is divided by, as the originals have it."""
_TIME_KERNELS = (7, 19, 31, 59)
_WIDE_KERNELS = (7, 15, 31)
_POSITION_KERNEL = 59
_LEAST_EXCITATION, _MOST_EXCITATION = 32, 64


def to_frames(maps: torch.Tensor) -> torch.Tensor:
    """(B, channels, rows, T) → (B, rows * channels, T)."""
    return maps.transpose(1, 2).flatten(1, 2)


def to_maps(frames: torch.Tensor, channels: int) -> torch.Tensor:
    """(B, rows * channels, T) → (B, channels, rows, T)."""
    return frames.unflatten(1, (-1, channels)).transpose(1, 2)


def redim_frontend(features: str, n_mels: int, masks: Masks, *, unit_audio: bool, hop: int) -> nn.Module:
    """ "mel", "tfmel": 20 to 7600 Hz with pre-emphasis, as the originals'; "kaldi": as wespeaker's."""
    frontend: nn.Module
    if features == "kaldi":
        frontend = KaldiFrontEnd(n_mels, hop=hop, masks=masks)
    elif features == "tfmel":
        frontend = TFMelFrontEnd(n_mels, hop=hop, masks=masks)
    else:
        frontend = MelFrontEnd(
            n_mels,
            unit_variance=False,
            preemphasis=True,
            low_hz=20.0,
            high_hz=7600.0,
            hop=hop,
            masks=masks,
        )
    return nn.Sequential(UnitAudio(_AUDIO_FLOOR[features]), frontend) if unit_audio else frontend


def least_audio(features: str, frames: int, hop: int) -> int:
    """Samples of which `redim_frontend` makes so many frames, and one window at least."""
    first = {"mel": 0, "tfmel": WINDOW - 2 * (hop // 2), "kaldi": WINDOW}[features]
    return max(WINDOW, first + hop * (frames - 1))


class ChannelNorm(nn.Module):
    """Normalisation over the channels of each point."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, channels, …) → the same shape."""
        return F.layer_norm(values.movedim(1, -1), (values.shape[1],), self.weight, self.bias, _EPS).movedim(
            -1, 1
        )


class WeighedSum(nn.Module):
    """A sum of several inputs of one shape, with learnt weights for each channel that add up to 1."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(1, inputs, channels, 1))

    def forward(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Tensors (B, channels, T) → one of the same shape."""
        weights = self.weights.softmax(dim=1)
        total = inputs[0] * weights[:, 0]
        for number, frames in enumerate(inputs[1:], start=1):
            total = total + frames * weights[:, number]
        return total


class ConvNeXtBlock(nn.Module):
    """Grouped convolutions side by side, normalisation, activation and a 1 × 1 convolution, as a residual.

    kernels: of each convolution; an int for frames, a pair for maps. group_size: channels of a group.
    """

    def __init__(
        self,
        channels: int,
        kernels: Sequence[int] | Sequence[tuple[int, int]],
        group_size: int = 1,
        *,
        relu: bool = False,
    ) -> None:
        super().__init__()
        flat = isinstance(kernels[0], int)
        convolution = nn.Conv1d if flat else nn.Conv2d
        self.convs = nn.ModuleList(
            convolution(channels, channels, kernel, padding="same", groups=channels // group_size)  # type: ignore[arg-type]
            for kernel in kernels
        )
        self.bn = (nn.BatchNorm1d if flat else nn.BatchNorm2d)(channels * len(kernels))
        self.activation = nn.ReLU() if relu else nn.GELU()
        self.merge = convolution(channels * len(kernels), channels, 1)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """(B, channels, …) → the same shape."""
        out = torch.cat([convolve(values) for convolve in self.convs], dim=1)
        return values + self.merge(self.activation(self.bn(out)))


class ResidualBlock(nn.Module):
    """Two grouped 3 × 3 convolutions, a 1 × 1 after each, and a shortcut.

    excite: whether each row is scaled by a number in (0, 1) that all the rows' means give.
    """

    def __init__(self, channels: int, rows: int, group_size: int, *, excite: bool) -> None:
        super().__init__()
        groups = channels // group_size
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.merge1 = nn.Conv2d(channels, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.merge2 = nn.Conv2d(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        hidden = min(_MOST_EXCITATION, max(channels, _LEAST_EXCITATION))
        self.excitation: nn.Module = _RowExcitation(rows, hidden) if excite else nn.Identity()

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, channels, rows, T) → the same shape."""
        out = self.bn1(torch.relu(self.merge1(self.conv1(maps))))
        out = self.excitation(self.bn2(self.merge2(self.conv2(out))))
        return torch.relu(out + maps)


class _RowExcitation(nn.Module):
    """Scales each row (a band of frequencies) by a number in (0, 1) computed from all the rows' means."""

    def __init__(self, rows: int, hidden: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(rows, hidden)
        self.excite = nn.Linear(hidden, rows)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        gates = torch.sigmoid(self.excite(torch.relu(self.squeeze(maps.mean(dim=(1, 3))))))
        return maps * gates[:, None, :, None]


def map_block(kind: str, channels: int, rows: int, group_size: int, kernel: tuple[int, int]) -> nn.Module:
    """A block over maps; `kernel` is for the ConvNeXt kinds.

    kind: "resnet", "resnet_se", "convnext" or "convnext_relu".
    """
    if kind.startswith("convnext"):
        return ConvNeXtBlock(channels, [kernel], group_size, relu=kind == "convnext_relu")
    return ResidualBlock(channels, rows, group_size, excite=kind == "resnet_se")


class TimeContext(nn.Module):
    """Looks along time with fewer channels, and adds what it finds to the frames.

    kind: "conv+attention", "attention", "conv" or "linear". hidden: its channels; with attention a
    multiple of 4.
    """

    def __init__(self, channels: int, hidden: int, kind: str) -> None:
        super().__init__()
        self.reduce = nn.Conv1d(channels, hidden, 1)
        self.norm = ChannelNorm(hidden)
        self.look = nn.Sequential(*_context_layers(hidden, kind))
        self.expand = nn.Conv1d(hidden, channels, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → the same shape."""
        return frames + self.expand(self.look(self.norm(self.reduce(frames))))


def _context_layers(hidden: int, kind: str) -> list[nn.Module]:
    if kind == "linear":
        return [
            nn.Conv1d(hidden, 2 * hidden, 1),
            ChannelNorm(2 * hidden),
            nn.GELU(),
            nn.Conv1d(2 * hidden, hidden, 1),
        ]
    if kind == "conv":
        return [ConvNeXtBlock(hidden, _WIDE_KERNELS) for _ in range(4)]
    if kind == "attention":
        return [_Position(hidden), _Transformer(hidden, 2 * hidden)]
    return [*(ConvNeXtBlock(hidden, [kernel]) for kernel in _TIME_KERNELS), _Transformer(hidden, hidden)]


class _Position(nn.Module):
    """A long convolution of each channel, which tells the frames where they stand."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels, channels, _POSITION_KERNEL, padding="same", groups=channels)
        self.norm = ChannelNorm(channels)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return frames + self.norm(self.conv(frames))


class _Transformer(nn.Module):
    """Self-attention and a feed-forward layer, normalised after each."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        if channels % _HEADS:
            raise ModelError(f"attention shares {channels} channels among {_HEADS} heads")
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.query = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.norm1 = nn.LayerNorm(channels, eps=_EPS)
        self.forward1 = nn.Linear(channels, hidden)
        self.forward2 = nn.Linear(hidden, channels)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → the same shape."""
        frames = frames.transpose(1, 2)
        query, key, value = (
            project(frames).unflatten(2, (_HEADS, -1)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        found = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        frames = self.norm1(frames + self.out(found))
        found = self.forward2(F.gelu(self.forward1(frames), approximate="tanh"))
        return self.norm2(frames + found).transpose(1, 2)
