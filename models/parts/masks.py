"""Masks over features in training (SpecAugment), drawn from the audio itself."""

from __future__ import annotations

import torch
from torch import nn

_WORD = 0xFFFFFFFF
_SPREAD = 2654435761  # Knuth's multiplicative hash
_MIX = 0x45D9F3B


class Masks(nn.Module):
    """Hides a range of bands and a range of frames of each utterance: they become 0, the mean.

    Park et al., "SpecAugment", Interspeech 2019, with one mask of each kind. Which ones is a function of
    the utterance's samples alone, hashed: a run draws the same masks on any number of processes, and when
    it is resumed, and another crop or another noise gives other masks. Nothing is hidden in evaluation.

    bands, frames: the widest masks; 0: none of that kind.
    """

    def __init__(self, bands: int, frames: int) -> None:
        super().__init__()
        self.widest = (bands, frames)

    def forward(self, features: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """features (B, n_mels, T) of audio (B, samples) → the same shape."""
        if not self.training or not any(self.widest):
            return features
        drawn = uniform(audio.float(), 4)
        shown = torch.ones_like(features, dtype=torch.bool)
        for kind, widest in enumerate(self.widest):
            length = features.shape[1 + kind]
            width = (drawn[2 * kind] * (min(widest, length) + 1)).long()
            start = (drawn[2 * kind + 1] * (length - width + 1)).long()
            place = torch.arange(length, device=features.device)
            hidden = (place >= start[:, None]) & (place < (start + width)[:, None])
            shown &= ~(hidden[:, None, :] if kind else hidden[:, :, None])
        return features * shown


def uniform(audio: torch.Tensor, count: int) -> list[torch.Tensor]:
    """float32 audio (B, samples) → `count` tensors (B,) of float64 in [0, 1), hashes of each row's bits."""
    with torch.no_grad():
        bits = audio.contiguous().view(torch.int32).long()
        weights = torch.arange(1, audio.shape[1] + 1, device=audio.device) * _SPREAD % (_WORD + 1) | 1
        total = (bits * weights).sum(dim=1)  # wraps around, and so does not depend on the order
        seed = (total ^ (total >> 32)) & _WORD
        return [_mixed((seed + number * _SPREAD) & _WORD).double() / (_WORD + 1) for number in range(count)]


def _mixed(word: torch.Tensor) -> torch.Tensor:
    """Bits of 32-bit words, spread over all of them."""
    for _ in range(2):
        word = ((word ^ (word >> 16)) * _MIX) & _WORD
    return word ^ (word >> 16)
