"""Network and loss as one module, so that DistributedDataParallel averages the gradients of both."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from train.losses import LossOutput


class SpeakerModel(nn.Module):
    """audio (rows, frames) float32, labels (rows,) int64 → LossOutput of this rank's rows.

    precision: "bf16" runs the network (not the loss) under autocast.
    """

    def __init__(self, network: nn.Module, loss: nn.Module, precision: str) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self._bf16 = precision == "bf16"

    def forward(self, audio: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        autocast = torch.autocast(audio.device.type, torch.bfloat16) if self._bf16 else nullcontext()
        with autocast:
            embeddings = self.network(audio)
        output: LossOutput = self.loss(embeddings.float(), labels)
        return output


def rehearse(model: nn.Module, audio: torch.Tensor, labels: torch.Tensor) -> None:
    """One forward and backward pass that leaves no trace: parameters and buffers are as before.

    DistributedDataParallel lays out its gradient buckets anew after its first backward pass,
    and the layout decides the order of the sums in an all-reduce. Rehearsing puts every step of
    a run, the first one after a resume too, under the same layout: the same bits. It also
    brings torch.compile's and the allocator's work before the first measured step.
    """
    before = [buffer.clone() for buffer in model.buffers()]
    model(audio, labels).loss.backward()
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), before, strict=True):
            buffer.copy_(value)
    model.zero_grad(set_to_none=True)
