"""Embeddings of speakers that are told apart by a loss: a network and a loss, trained together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import ClassVar

import torch
from torch import nn

from train.losses import LossOutput, SpeakerLoss
from train.objectives.base import Objective, Outcome
from train.progress import Progress


class Supervised(Objective):
    """batch["audio"] (rows, samples) float32 and batch["label"] (rows,) int64 → loss and accuracy.

    precision: "bf16" runs the network (not the loss) under autocast.
    """

    inputs: ClassVar = ("audio", "label")

    def __init__(self, network: nn.Module, loss: SpeakerLoss, precision: str) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self._bf16 = precision == "bf16"

    def parts(self) -> dict[str, nn.Module]:
        return {"network": self.network, "loss": self.loss}

    def begin(self, progress: Progress) -> None:
        self.loss.begin(progress)

    def forward(self, batch: Mapping[str, torch.Tensor]) -> Outcome:
        audio = batch["audio"]
        autocast = torch.autocast(audio.device.type, torch.bfloat16) if self._bf16 else nullcontext()
        with autocast:
            embeddings = self.network(audio)
        output: LossOutput = self.loss(embeddings.float(), batch["label"])
        told = {name: output.loss.new_tensor(value) for name, value in self.loss.figures().items()}
        return Outcome(output.loss, {"accuracy": output.accuracy, **told})
