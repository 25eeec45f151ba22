"""Sums that half precision would lose."""

from __future__ import annotations

import torch


def wide(values: torch.Tensor) -> torch.Tensor:
    """`values` in float32, or in float64 where they are already."""
    return values if values.dtype is torch.float64 else values.float()
