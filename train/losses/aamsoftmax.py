"""Additive-angular-margin softmax (ArcFace)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.options import Within
from train.losses.base import LossOutput, SpeakerLoss, classify
from train.losses.margin import Growth
from train.progress import Progress

_LEAST_SQUARED_SINE = 1e-12
"""Far below what float32 can hold of 1 - cos² short of 0 (6e-8): it only replaces the zeros."""


class AAMSoftmax(SpeakerLoss):
    """Cross-entropy over scaled cosines, with `margin` added to the right speaker's angle.

    Deng et al., "ArcFace: additive angular margin loss for deep face recognition",
    2019. cos(θ + m) turns back up once θ + m passes π; there, as in ArcFace, the
    right logit becomes cos θ - m sin m, which goes on falling.

    margin: added to the angle, in radians. scale: multiplies the cosines.
    easy_margin: apply the margin only to angles below 90°, and none beyond.
    margin_initial, margin_begins, margin_ends, margin_growth: the margin grows from margin_initial to
    `margin` between the epochs margin_begins and margin_ends, exponentially or as a line; with margin_ends 0
    it is `margin` from the start.

    The margin is worked out for the right speakers alone and put in their place, so
    that of tables (B, speakers) there are the logits and their log-probabilities
    and no other, however many the speakers.
    """

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        *,
        margin: Annotated[float, Within(0, math.pi / 2)] = 0.3,
        scale: Annotated[float, Within(1e-3, 1000)] = 15.0,
        easy_margin: bool = False,
        margin_initial: Annotated[float, Within(0, math.pi / 2)] = 0.0,
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
        self.easy_margin = easy_margin
        self.weight = nn.Parameter(torch.empty(speakers, embedding_size))
        nn.init.xavier_normal_(self.weight)

    def begin(self, progress: Progress) -> None:
        self.margin = self.growth.at(progress.epochs)

    def figures(self) -> dict[str, float]:
        return {"margin": self.margin} if self.growth.grows else {}

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (B, D), labels (B,) int64."""
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        right = torch.arange(len(labels), device=labels.device), labels
        cosines[right] = self._with_margin(cosines[right])
        return classify(cosines.mul_(self.scale), labels)

    def _with_margin(self, cosine: torch.Tensor) -> torch.Tensor:
        """The logit (before scaling) that stands for a right speaker at `cosine`; any shape.

        At cosine ±1 the slope of the sine is infinite; the clamp makes it 0 there,
        because one such row would turn every weight into NaN.
        """
        sine = (1.0 - cosine.square()).clamp(min=_LEAST_SQUARED_SINE).sqrt()
        shifted = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        turning = math.cos(math.pi - self.margin)
        return torch.where(cosine > turning, shifted, cosine - self.margin * math.sin(self.margin))
