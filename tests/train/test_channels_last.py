"""Weights are turned where that is safe, and a network that torch would crash on is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.registry import build_network
from shard_tools.errors import UserError
from train.channels_last import to_channels_last


def test_convolutions_are_turned():
    network = nn.Sequential(nn.Conv2d(16, 32, 1, stride=2), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, stride=2))
    to_channels_last(network, "cpu")
    assert network[2].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [4, 8])
def test_a_network_that_would_crash_is_refused_on_cpus(channels):
    network = build_network("resnet", {"depth": 18, "channels": channels})
    with pytest.raises(UserError, match=rf"stages\S+ is a 1 x 1 convolution with a stride of {channels} ch"):
        to_channels_last(network, "cpu")
    to_channels_last(network, "cuda")  # cuDNN's code has no such fault
