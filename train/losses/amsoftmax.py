"""Additive-margin softmax (CosFace)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.options import Within
from train.losses.base import LossOutput, SpeakerLoss, classify
from train.losses.margin import Growth
from train.progress import Progress


class AMSoftmax(SpeakerLoss):
    """Cross-entropy over scaled cosines, with `margin` taken from the right speaker's cosine.

    Wang et al., "Additive margin softmax for face verification", 2018.

    margin: subtracted from the cosine. scale: multiplies the cosines.
    margin_initial, margin_begins, margin_ends, margin_growth: the margin grows from margin_initial to
    `margin` between the epochs margin_begins and margin_ends, exponentially or as a line; with margin_ends 0
    it is `margin` from the start.
    """

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        *,
        margin: Annotated[float, Within(0, 2)] = 0.3,
        scale: Annotated[float, Within(1e-3, 1000)] = 15.0,
        margin_initial: Annotated[float, Within(0, 2)] = 0.0,
        margin_begins: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_ends: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_growth: Literal["exponential", "linear"] = "exponential",
    ) -> None:
        super().__init__()
        self.growth = Growth(
            margin_initial, margin, margin_begins, margin_ends, margin_growth == "exponential"
        )
        self.margin = self.growth.at(0.0)
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(speakers, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def begin(self, progress: Progress) -> None:
        self.margin = self.growth.at(progress.epochs)

    def figures(self) -> dict[str, float]:
        return {"margin": self.margin} if self.growth.grows else {}

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (B, D), labels (B,) int64."""
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        cosines[torch.arange(len(labels), device=labels.device), labels] -= self.margin
        return classify(cosines.mul_(self.scale), labels)
