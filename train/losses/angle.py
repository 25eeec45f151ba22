"""Margins on angles, worked out on their cosines."""

from __future__ import annotations

import math

import torch

_LEAST_SQUARED_SINE = 1e-12
"""Far below what float32 can hold of 1 - cos² short of 0 (6e-8): it only replaces the zeros."""


def turned(cosine: torch.Tensor, angle: float) -> torch.Tensor:
    """cos(θ + angle) from cos θ; any shape.

    At cosine ±1 the slope of the sine is infinite; the clamp makes it 0 there,
    because one such row would turn every weight into NaN.
    """
    sine = (1.0 - cosine.square()).clamp(min=_LEAST_SQUARED_SINE).sqrt()
    return cosine * math.cos(angle) - sine * math.sin(angle)


def joined(cosine: torch.Tensor, margin: float, *, easy: bool = False) -> torch.Tensor:
    """cos(θ + margin), and where that would turn back up, beyond π - margin, cos θ - 1 + cos margin.

    Wespeaker's way: the two meet in value at π - margin. easy: the margin only below 90°, none beyond.
    """
    if easy:
        return torch.where(cosine > 0, turned(cosine, margin), cosine)
    turning = math.cos(math.pi - margin)
    return torch.where(cosine > turning, turned(cosine, margin), cosine - (1.0 + turning))
