"""Rows of all ranks, with gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


def gather_rows(rows: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Rows (n, D) of this rank → rows (world * n, D) of all ranks in rank order, and where this rank's begin.

    Every rank must call it, with the same n. Gradients flow back to the rank that
    a row came from: each rank's row receives the *sum* over ranks of the gradients
    of their local losses. DistributedDataParallel then divides by the world, so
    that the gradient is that of the mean over ranks of the local losses.

    Without an initialised process group, or alone in one, it returns (rows, 0).
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return rows, 0
    return _GatherRows.apply(rows), dist.get_rank() * rows.shape[0]


class _GatherRows(torch.autograd.Function):
    """all_gather forward, its transpose (reduce_scatter with sum) backward."""

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        gathered = rows.new_empty(dist.get_world_size() * rows.shape[0], *rows.shape[1:])
        dist.all_gather_into_tensor(gathered, rows.contiguous())
        return gathered

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        (gradient,) = gradients
        own = gradient.new_empty(gradient.shape[0] // dist.get_world_size(), *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient.contiguous(), op=dist.ReduceOp.SUM)
        return own
