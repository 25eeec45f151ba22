"""Additive-margin softmax (CosFace)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.options import Within
from train.losses.classes import Classes
from train.losses.head import HeadLoss, Places
from train.losses.initial import xavier_normal
from train.losses.margin import GrowingMargin


class AMSoftmax(GrowingMargin, HeadLoss):
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
        classes: Classes | None = None,
        *,
        margin: Annotated[float, Within(0, 2)] = 0.3,
        scale: Annotated[float, Within(1e-3, 1000)] = 15.0,
        margin_initial: Annotated[float, Within(0, 2)] = 0.0,
        margin_begins: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_ends: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_growth: Literal["exponential", "linear"] = "exponential",
    ) -> None:
        super().__init__(speakers, classes)
        self.grow(margin, margin_initial, margin_begins, margin_ends, margin_growth)
        self.scale = scale
        self.weight = nn.Parameter(xavier_normal(self.classes, embedding_size))

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        return F.linear(F.normalize(embeddings), F.normalize(self.weight))

    def logits(self, scores: torch.Tensor, right: Places) -> torch.Tensor:
        scores[right] -= self.margin
        return scores.mul_(self.scale)
