"""The running average of a network's weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn


class Averaged:
    """An exponential moving average of the weights of `network`, and of its running statistics.

    network: a copy of the network that holds it, in evaluation mode.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._own = list(self.network.state_dict().values())
        self._theirs = list(network.state_dict().values())

    @torch.no_grad()
    def begin(self) -> None:
        """Begin with the weights as they are now: they were put there after this was made."""
        for own, theirs in zip(self._own, self._theirs, strict=True):
            own.copy_(theirs)

    @torch.no_grad()
    def take(self, steps: int) -> None:
        """Take in the weights after `steps` steps.

        The decay is at most (1 + steps) / (10 + steps), so that the random weights of the beginning do not
        stay in the average for thousands of steps.
        """
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for own, theirs in zip(self._own, self._theirs, strict=True):
            if own.is_floating_point():
                own.lerp_(theirs, 1 - decay)
            else:
                own.copy_(theirs)
