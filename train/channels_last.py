"""A network's weights in channels-last order, where that is safe."""

from __future__ import annotations

import torch
from torch import nn

from shard_tools.errors import UserError

_BLOCK = 16  # channels that oneDNN's widest code takes at a time


def to_channels_last(network: nn.Module, device: str) -> None:
    """Turn the weights of convolutions to channels-last order, in place.

    UserError on CPUs for a 1 x 1 convolution with a stride and fewer channels than a block of oneDNN's: its
    gradient writes beyond its memory in that order (oneDNN's issue 6035, in torch 2.11 and later), so that
    the process dies, or learns from what it overwrote.
    """
    if device == "cpu":
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d) and _writes_beyond(module):
                raise UserError(
                    f"train.channels_last: the network's {name} is a 1 x 1 convolution with a stride of"
                    f" {module.in_channels} channels, which crashes on CPUs in this order below {_BLOCK}"
                    " (oneDNN's issue 6035): set it to false, or give the network more channels"
                )
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _writes_beyond(convolution: nn.Conv2d) -> bool:
    strided = max(convolution.stride) > 1 and set(convolution.kernel_size) == {1}
    return strided and convolution.in_channels // convolution.groups < _BLOCK
