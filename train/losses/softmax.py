"""Softmax cross-entropy over the training speakers."""

from __future__ import annotations

import torch
from torch import nn

from train.losses.classes import Classes
from train.losses.head import HeadLoss
from train.losses.initial import linear


class Softmax(HeadLoss):
    """One linear layer with bias from the embedding to the speakers, and cross-entropy."""

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        classes: Classes | None = None,
    ) -> None:
        super().__init__(speakers, classes)
        self.fc: nn.Linear = linear(self.classes, embedding_size)

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(embeddings)
        return logits
