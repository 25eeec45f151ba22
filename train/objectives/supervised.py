"""Embeddings of speakers that are told apart by a loss: a network and a loss, trained together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import ClassVar

import torch
from torch import nn

from train.losses import LossOutput, SpeakerLoss
from train.losses.classes import Classes
from train.objectives.base import Objective, Outcome
from train.progress import Progress

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Supervised(Objective):
    """batch["audio"] (rows, samples) float32 and batch["label"] (rows,) int64 → loss and accuracy.

    precision: "bf16" and "fp16" run the network (not the loss) under autocast.
    """

    inputs: ClassVar = ("audio", "label")

    def __init__(self, network: nn.Module, loss: SpeakerLoss, precision: str) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.compares_rows = loss.compares_rows
        self._half = _HALF.get(precision)

    def parts(self) -> dict[str, nn.Module]:
        return {"network": self.network, "loss": self.loss}

    def sharded(self) -> dict[nn.Parameter, Classes]:
        return self.loss.sharded()

    def begin(self, progress: Progress) -> None:
        self.loss.begin(progress)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> Outcome:
        embeddings = self.embed(batch)
        if "gradient" not in batch:
            return self.judge(embeddings, batch)
        # The loss's parameters have their gradients already. DistributedDataParallel shares those of
        # parameters that take part in a pass, which they do here by nothing.
        nothing = sum(parameter.sum() * 0 for parameter in self.loss.parameters() if parameter.requires_grad)
        return Outcome((embeddings * batch["gradient"]).sum() + nothing, {})

    def embed(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        audio = batch["audio"]
        with torch.autocast(audio.device.type, self._half) if self._half else nullcontext():
            embeddings: torch.Tensor = self.network(audio)
        return embeddings if embeddings.dtype is torch.float64 else embeddings.float()

    def judge(self, embeddings: torch.Tensor, batch: Mapping[str, torch.Tensor]) -> Outcome:
        output: LossOutput = self.loss(embeddings, batch["label"])
        told = {name: output.loss.new_tensor(value) for name, value in self.loss.figures().items()}
        return Outcome(output.loss, {"accuracy": output.accuracy, **told})
