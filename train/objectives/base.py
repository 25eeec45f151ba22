"""What the trainer knows of what it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import nn

from train.progress import Progress


class Outcome(NamedTuple):
    """What an objective makes of a rank's rows of a batch.

    loss: scalar, mean over the rows, to call backward on; figures: scalars, detached, each a mean over
    the rows, that are logged beside it.
    """

    loss: torch.Tensor
    figures: dict[str, torch.Tensor]


class Objective(nn.Module, ABC):
    """Modules that are trained together, as one, so that DistributedDataParallel sees all parameters.

    network: of these, the one that makes embeddings: what is validated and evaluated.
    inputs: the tensors of a batch (see Stream.finish) that forward wants, on the device.
    """

    network: nn.Module
    inputs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The modules by the checkpoint's fields that hold their weights; "network" is one of them."""

    @abstractmethod
    def forward(self, batch: Mapping[str, torch.Tensor]) -> Outcome:
        """batch: the tensors that `inputs` names, of this rank's rows."""

    def begin(self, progress: Progress) -> None:
        """Told before each step how far the run has come; see SpeakerLoss.begin."""


def rehearse(objective: nn.Module, batch: Mapping[str, torch.Tensor]) -> None:
    """One forward and backward pass that leaves no trace: parameters and buffers are as before.

    DistributedDataParallel lays out its gradient buckets anew after its first backward pass,
    and the layout decides the order of the sums in an all-reduce. Rehearsing puts every step of
    a run, the first one after a resume too, under the same layout: the same bits. It also
    brings torch.compile's and the allocator's work before the first measured step.

    objective: an Objective, or one in a DistributedDataParallel.
    """
    before = [buffer.clone() for buffer in objective.buffers()]
    objective(batch).loss.backward()
    with torch.no_grad():
        for buffer, value in zip(objective.buffers(), before, strict=True):
            buffer.copy_(value)
    objective.zero_grad(set_to_none=True)
