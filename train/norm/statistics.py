"""Running statistics that take one update a step, from all that was normalised in it."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


class SummingBatchNorm(_BatchNorm):
    """A BatchNorm that, in training, sums the statistics it has used, and leaves its running ones alone.

    The state dict is that of torch's BatchNorm; `RunningStatistics` turns the sums into the step's update.
    """

    sum_mean: torch.Tensor
    sum_var: torch.Tensor

    def __init__(self, like: _BatchNorm) -> None:
        """like: the layer whose parameters and buffers are taken over."""
        assert like.running_mean is not None
        assert like.momentum is not None
        super().__init__(like.num_features, like.eps, like.momentum, like.affine, device="meta")
        self.weight, self.bias = like.weight, like.bias
        self.running_mean, self.running_var = like.running_mean, like.running_var
        self.num_batches_tracked = like.num_batches_tracked
        self.training = like.training
        self.register_buffer("sum_mean", torch.zeros_like(like.running_mean), persistent=False)
        self.register_buffer("sum_var", torch.zeros_like(like.running_mean), persistent=False)

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any (B, C, …) will do: the layer stands for those of every dimension."""

    def add(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        """Add a group's mean and unbiased variance, each (C,)."""
        self.sum_mean += mean
        self.sum_var += variance


class RunningStatistics:
    """The running statistics of the SummingBatchNorms in `module`."""

    def __init__(self, module: nn.Module) -> None:
        self._layers = [layer for layer in module.modules() if isinstance(layer, SummingBatchNorm)]

    @torch.no_grad()
    def forget(self) -> None:
        """Drop what was summed: the pass it came from is made again."""
        for layer in self._layers:
            layer.sum_mean.zero_()
            layer.sum_var.zero_()

    @torch.no_grad()
    def take(self, groups: int) -> None:
        """One update, by the mean over all groups of all ranks; all must call this after the same step.

        groups: how many this rank has normalised since the last update.
        """
        layers = [layer for layer in self._layers if layer.training]  # not the frozen ones
        if not layers:
            return
        sums = [part for layer in layers for part in (layer.sum_mean, layer.sum_var)]
        flat = torch.cat(sums).double()
        if dist.is_initialized():
            dist.all_reduce(flat)
            flat /= dist.get_world_size()
        means = (flat / groups).split([part.numel() for part in sums])
        for number, layer in enumerate(layers):
            running = layer.running_mean, layer.running_var
            for kept, mean in zip(running, means[2 * number : 2 * number + 2], strict=True):
                kept.lerp_(mean.to(kept.dtype), layer.momentum)  # type: ignore[union-attr, arg-type]
            layer.num_batches_tracked.add_(1)  # type: ignore[union-attr]
        self.forget()
