"""ECAPA-TDNN as SpeechBrain has it, which differs from wespeaker's in many small things."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import nn

from models.options import ModelError, Within
from models.parts.decibels import DecibelFrontEnd
from models.parts.fbank import kaldi_frontend
from models.parts.frontend import HOP, WINDOW, check_audio
from models.parts.masks import Masks
from models.parts.precision import wide

_SCALE = 8
_BOTTLENECK = 128
_DILATIONS = (2, 3, 4)
_LEAST_VARIANCE = 1e-12
_LEAST_FRAMES = max(_DILATIONS) + 1
"""What can be reflected at its ends."""


class ECAPASpeechBrain(nn.Module):
    """ECAPA-TDNN whose convolutions reflect the ends of an utterance, and normalise in more places.

    Desplanques et al., "ECAPA-TDNN", Interspeech 2020, as SpeechBrain and 3D-Speaker (Apache licence 2.0)
    have it: given the same weights it computes what their `ECAPA_TDNN` computes on their own features. 20.8
    million weights with 1024 channels, as they have released it.

    n_mels: mel bands. channels: of each block, a multiple of 8; three times as many are pooled. context:
    whether the weights of the pooling see the utterance's mean and standard deviation. embedding_size:
    dimensions of the output.

    mask_bands, mask_frames: the widest masks over features in training (SpecAugment). features: "speechbrain"
    or "3d-speaker", which takes Kaldi's.
    """

    def __init__(
        self,
        *,
        n_mels: Annotated[int, Within(8, 256)] = 80,
        channels: Annotated[int, Within(8, 4096)] = 1024,
        context: bool = True,
        embedding_size: Annotated[int, Within(1, 8192)] = 192,
        mask_bands: Annotated[int, Within(0, 64)] = 0,
        mask_frames: Annotated[int, Within(0, 400)] = 0,
        features: Literal["speechbrain", "3d-speaker"] = "speechbrain",
    ) -> None:
        super().__init__()
        if channels % _SCALE:
            near = channels // _SCALE * _SCALE
            raise ModelError(
                f"channels is {channels}: blocks part them into {_SCALE}; give {near} or {near + _SCALE}"
            )
        self.embedding_size = embedding_size
        masks = Masks(mask_bands, mask_frames)
        self.frontend: nn.Module
        if features == "speechbrain":
            self.frontend = DecibelFrontEnd(n_mels, masks=masks)
            self.least_samples = HOP * (_LEAST_FRAMES - 1)
        else:
            self.frontend = kaldi_frontend(features, n_mels, unit_variance=False, masks=masks)
            self.least_samples = WINDOW + HOP * (_LEAST_FRAMES - 1)
        self.layer1 = _Layer(n_mels, channels, kernel=5)
        self.blocks = nn.ModuleList(_Block(channels, dilation) for dilation in _DILATIONS)
        self.merge = _Layer(3 * channels, 3 * channels)
        self.pooling = _Pooling(3 * channels, context=context)
        self.bn_pooled = nn.BatchNorm1d(6 * channels)
        self.fc = nn.Conv1d(6 * channels, embedding_size, 1)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """audio float32 (B, samples) in [-1, 1), samples ≥ `least_samples` → (B, embedding_size).

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
        pooled = self.bn_pooled(self.pooling(self.merge(torch.cat(outputs, dim=1))))
        return self.fc(pooled.unsqueeze(2)).squeeze(2)


class _Layer(nn.Module):
    """Convolution between reflections of its input → ReLU → batch normalisation, at the same length."""

    def __init__(self, channels_in: int, channels: int, *, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = kernel // 2 * dilation
        self.conv = nn.Conv1d(
            channels_in, channels, kernel, dilation=dilation, padding=padding, padding_mode="reflect"
        )
        self.bn = nn.BatchNorm1d(channels)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.bn(torch.relu(self.conv(frames)))


class _Block(nn.Module):
    """Layer, Res2Net layers, layer, and squeeze-excitation, beside a shortcut.

    Of the Res2Net layers each has an eighth of the channels and sees the one before; the first eighth passes.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        width = channels // _SCALE
        self.layer1 = _Layer(channels, channels)
        self.res2 = nn.ModuleList(
            _Layer(width, width, kernel=3, dilation=dilation) for _ in range(_SCALE - 1)
        )
        self.layer2 = _Layer(channels, channels)
        self.squeeze = nn.Conv1d(channels, _BOTTLENECK, 1)
        self.excite = nn.Conv1d(_BOTTLENECK, channels, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → the same shape."""
        first, *parts = self.layer1(frames).chunk(_SCALE, dim=1)
        done = [first]
        for number, (part, layer) in enumerate(zip(parts, self.res2, strict=True)):
            done.append(layer(done[-1] + part if number else part))
        out = self.layer2(torch.cat(done, dim=1))
        gates = torch.sigmoid(self.excite(torch.relu(self.squeeze(out.mean(dim=2, keepdim=True)))))
        return frames + out * gates


class _Pooling(nn.Module):
    """Weighted mean and standard deviation over time, with a weight for each channel and frame."""

    def __init__(self, channels: int, *, context: bool) -> None:
        super().__init__()
        self.context = context
        self.hidden = _Layer(channels * (3 if context else 1), _BOTTLENECK)
        self.scores = nn.Conv1d(_BOTTLENECK, channels, 1)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, channels, T) → (B, 2 * channels) float32: means, then standard deviations."""
        seen, whole = frames, wide(frames)
        if self.context:
            mean, deviation = _statistics(whole, torch.ones_like(whole[:1, :1]) / whole.shape[2])
            seen = torch.cat((frames, mean.expand_as(frames), deviation.expand_as(frames)), dim=1)
        weights = wide(self.scores(torch.tanh(self.hidden(seen)))).softmax(dim=2)
        return torch.cat(_statistics(whole, weights), dim=1).squeeze(2)


def _statistics(frames: torch.Tensor, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation over time, (B, channels, 1) each; `weights` add up to 1."""
    mean = (frames * weights).sum(dim=2, keepdim=True)
    variance = ((frames - mean).square() * weights).sum(dim=2, keepdim=True)
    return mean, variance.clamp(min=_LEAST_VARIANCE).sqrt()
