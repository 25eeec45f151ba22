"""Batch normalisation over the rows of all ranks."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch.nn.modules.batchnorm import _BatchNorm

from train.norm.statistics import SummingBatchNorm


class SharedBatchNorm(SummingBatchNorm):
    """BatchNorm over the same-sized rows of every rank, as torch's SyncBatchNorm, on gloo and CPUs too.

    Two small collectives a layer and step: an all-gather forward, an all-reduce backward. They cannot be
    compiled: `keep_out_of_graphs` first.
    """

    def __init__(self, like: _BatchNorm) -> None:
        super().__init__(like)

    def keep_out_of_graphs(self) -> None:
        self.forward = torch.compiler.disable(self.forward)  # type: ignore[method-assign]

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input (B, C, …); in training all ranks call it, with the same shape and in the same order."""
        if not self.training:
            return super().forward(input)
        normalised, mean, variance = _Normalise.apply(input, self.eps)
        count = input.numel() // input.shape[1] * _world()
        self.add(mean, variance * (count / (count - 1)))
        if not self.affine:
            return normalised
        shape = [1, -1] + [1] * (input.dim() - 2)
        scaled: torch.Tensor = normalised * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)


class _Normalise(torch.autograd.Function):
    """(B, C, …) → (x - mean) / sqrt(var + eps), float32 or wider; the mean and biased variance (C,)."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        others = [axis for axis in range(x.dim()) if axis != 1]
        variance, mean = torch.var_mean(wide, others, correction=0)
        variance, mean = _merged(variance, mean)
        shape = [1, -1] + [1] * (x.dim() - 2)
        inverse = (variance + eps).rsqrt().view(shape)
        normalised = (wide - mean.view(shape)) * inverse
        ctx.save_for_backward(normalised, inverse)
        ctx.kind = x.dtype
        ctx.mark_non_differentiable(mean, variance)
        return normalised, mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Every rank's statistics hang on every rank's rows: their share is the mean over all of them."""
        normalised, inverse = ctx.saved_tensors
        gradient = gradients[0].to(normalised.dtype)
        others = [axis for axis in range(normalised.dim()) if axis != 1]
        shares = torch.stack([gradient.mean(others), (gradient * normalised).mean(others)])
        if _world() > 1:
            dist.all_reduce(shares)
            shares /= _world()
        by_mean, by_variance = (share.view(inverse.shape) for share in shares)
        own = inverse * (gradient - by_mean - normalised * by_variance)
        return own.to(ctx.kind), None


def _merged(variance: torch.Tensor, mean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Biased variance and mean of all ranks' rows, from each rank's; sums of squares would cancel."""
    if _world() == 1:
        return variance, mean
    own = torch.stack([variance, mean])
    each = [torch.empty_like(own) for _ in range(_world())]
    dist.all_gather(each, own)
    variances, means = torch.stack(each).unbind(1)
    together = means.mean(0)
    return (variances + (means - together).square()).mean(0), together


def _world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1
