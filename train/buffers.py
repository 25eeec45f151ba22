"""Running statistics that are the same on every rank: their mean, after every step."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn


class BufferMean:
    """Puts the mean over ranks into the floating-point buffers of `module` that its state dict holds.

    Those are BatchNorm's running means and variances, which each rank moves by its own rows of a
    batch. With the mean in them after every step every rank evaluates the network that the
    checkpoint has, whichever rank wrote it, and every rank's rows count. Integer buffers count
    steps, and are the same on all ranks without help. Buffers outside the state dict are constants
    of the code.

    One all-reduce carries all of them, in float64 whatever their types: W times a float32 value is
    exact in it for every W there is, so that a buffer which no step changes keeps its bits. On one
    rank there is nothing to do, and nothing is done.
    """

    def __init__(self, module: nn.Module) -> None:
        self._world = dist.get_world_size() if dist.is_initialized() else 1
        kept = module.state_dict().keys() if self._world > 1 else ()
        self._buffers = [
            buffer for name, buffer in module.named_buffers() if name in kept and buffer.is_floating_point()
        ]
        if not self._buffers:
            return
        sizes = [buffer.numel() for buffer in self._buffers]
        self._flat = torch.empty(sum(sizes), dtype=torch.float64, device=self._buffers[0].device)
        parts = self._flat.split(sizes)
        self._parts = [part.view_as(buffer) for part, buffer in zip(parts, self._buffers, strict=True)]

    @torch.no_grad()
    def take(self) -> None:
        """Average now; every rank must call this after the same step."""
        if not self._buffers:
            return
        torch._foreach_copy_(self._parts, self._buffers)
        dist.all_reduce(self._flat)
        self._flat /= self._world
        torch._foreach_copy_(self._buffers, self._parts)
