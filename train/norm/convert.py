"""Putting other layers in the place of a module's BatchNorms."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from train.norm.statistics import SummingBatchNorm


def convert(module: nn.Module, make: Callable[[_BatchNorm], SummingBatchNorm]) -> int:
    """Put make(layer) in the place of every BatchNorm below `module` that has running statistics.

    Parameters, buffers and the names in the state dict stay. Returns how many there were.
    """
    made: dict[int, SummingBatchNorm] = {}  # a layer that stands in two places stays one
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _BatchNorm) and child.running_mean is not None:
                if id(child) not in made:
                    made[id(child)] = make(child)
                setattr(parent, name, made[id(child)])
    return len(made)
