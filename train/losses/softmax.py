"""Softmax cross-entropy over the training speakers."""

from __future__ import annotations

import torch
from torch import nn

from train.losses.base import LossOutput, SpeakerLoss, classify


class Softmax(SpeakerLoss):
    """One linear layer with bias from the embedding to the speakers, and cross-entropy."""

    def __init__(self, embedding_size: int, speakers: int, utterances_per_speaker: int) -> None:
        super().__init__()
        self.fc = nn.Linear(embedding_size, speakers)

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (B, D), labels (B,) int64."""
        return classify(self.fc(embeddings), labels)
