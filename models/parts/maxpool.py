"""Maxima over windows of maps, which torch.export can write for any length."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class MaxPool(nn.Module):
    """As MaxPool2d.

    torch.export takes MaxPool2d's own shapes for lengths of one remainder alone: while it looks on, the
    maxima are taken of windows that are cut first, which is the same and slower.

    kernel, stride: (rows, columns).
    """

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.kernel = kernel
        self.stride = stride

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) → (B, C, 1 + (H - kernel) // stride, 1 + (W - kernel) // stride)."""
        if not torch.compiler.is_exporting():
            return F.max_pool2d(maps, self.kernel, self.stride)
        for dimension, size, step in zip((2, 3), self.kernel, self.stride, strict=True):
            if size == step > 1:
                count = maps.shape[dimension] // size
                kept = torch.arange(count * size, device=maps.device)
                maps = (
                    maps.index_select(dimension, kept).unflatten(dimension, (count, size)).amax(dimension + 1)
                )
            elif size > 1:
                maps = maps.unfold(dimension, size, step).amax(dim=-1)
        return maps
