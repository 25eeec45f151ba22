"""What the trainer knows of what it trains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, NamedTuple, TypeVar

import torch
from torch import nn

from train.losses.classes import Classes
from train.progress import Progress

_Self = TypeVar("_Self", bound="Objective")


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
    compares_rows: whether its loss compares the rows of a batch with each other. Where it does, and a batch
    is passed in pieces, `embed` and `judge` are called, and `forward` with "gradient" in the batch.
    frozen: beginnings of the names of modules that stay as they are.
    """

    network: nn.Module
    inputs: ClassVar[tuple[str, ...]]
    compares_rows: bool = False
    frozen: tuple[str, ...] = ()

    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The modules by the checkpoint's fields that hold their weights; "network" is one of them."""

    @abstractmethod
    def forward(self, batch: Mapping[str, torch.Tensor]) -> Outcome:
        """batch: the tensors that `inputs` names, of this rank's rows.

        With "gradient" (rows, D) besides, that of the loss on the embeddings: a loss whose gradient it is.
        """

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The embeddings (rows, D) of a piece of this rank's rows."""
        raise NotImplementedError

    def judge(self, embeddings: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> Outcome:
        """The outcome of all rows, whose embeddings (rows, D) there are already."""
        raise NotImplementedError

    def sharded(self) -> dict[nn.Parameter, Classes]:
        """The parameters of which each process has rows of its own, and which: see SpeakerLoss.sharded."""
        return {}

    def begin(self, progress: Progress) -> None:
        """Told before each step how far the run has come; see SpeakerLoss.begin."""

    def train(self: _Self, mode: bool = True) -> _Self:
        """As torch's, and what is frozen stays in evaluation mode: its statistics do not move either."""
        super().train(mode)
        for name, module in self.named_modules():
            if name and any(f"{name}.".startswith(prefix) for prefix in self.frozen):
                module.training = False
        return self


def rehearse(objective: Objective, backward: Callable[[], object]) -> None:
    """One forward and backward pass that leaves no trace: parameters and buffers are as before.

    DistributedDataParallel lays out its gradient buckets anew after its first backward pass,
    and the layout decides the order of the sums in an all-reduce. Rehearsing puts every step of
    a run, the first one after a resume too, under the same layout: the same bits. It also
    brings torch.compile's and the allocator's work before the first measured step.

    backward: leaves gradients, as a step does.
    """
    before = [buffer.clone() for buffer in objective.buffers()]
    backward()
    with torch.no_grad():
        for buffer, value in zip(objective.buffers(), before, strict=True):
            buffer.copy_(value)
    objective.zero_grad(set_to_none=True)
