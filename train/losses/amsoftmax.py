"""Additive-margin softmax (CosFace)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from models.options import Within
from train.losses.base import LossOutput, SpeakerLoss, classify


class AMSoftmax(SpeakerLoss):
    """Cross-entropy over scaled cosines, with `margin` taken from the right speaker's cosine.

    Wang et al., "Additive margin softmax for face verification", 2018.

    margin: subtracted from the cosine. scale: multiplies the cosines.
    """

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        *,
        margin: Annotated[float, Within(0, 2)] = 0.3,
        scale: Annotated[float, Within(1e-3, 1000)] = 15.0,
    ) -> None:
        super().__init__()
        self.margin = margin
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(speakers, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (B, D), labels (B,) int64."""
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        cosines[torch.arange(len(labels), device=labels.device), labels] -= self.margin
        return classify(cosines.mul_(self.scale), labels)
