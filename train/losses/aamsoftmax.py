"""Additive-angular-margin softmax (ArcFace)."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.options import Within
from train.losses.angle import turned
from train.losses.classes import Classes
from train.losses.head import HeadLoss, Places
from train.losses.initial import xavier_normal
from train.losses.margin import GrowingMargin


class AAMSoftmax(GrowingMargin, HeadLoss):
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
        classes: Classes | None = None,
        *,
        margin: Annotated[float, Within(0, math.pi / 2)] = 0.3,
        scale: Annotated[float, Within(1e-3, 1000)] = 15.0,
        easy_margin: bool = False,
        margin_initial: Annotated[float, Within(0, math.pi / 2)] = 0.0,
        margin_begins: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_ends: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_growth: Literal["exponential", "linear"] = "exponential",
    ) -> None:
        super().__init__(speakers, classes)
        self.grow(margin, margin_initial, margin_begins, margin_ends, margin_growth)
        self.scale = scale
        self.easy_margin = easy_margin
        self.weight = nn.Parameter(xavier_normal(self.classes, embedding_size))

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        return F.linear(F.normalize(embeddings), F.normalize(self.weight))

    def logits(self, scores: torch.Tensor, right: Places) -> torch.Tensor:
        scores[right] = self._with_margin(scores[right])
        return scores.mul_(self.scale)

    def _with_margin(self, cosine: torch.Tensor) -> torch.Tensor:
        """The logit (before scaling) that stands for a right speaker at `cosine`; any shape."""
        shifted = turned(cosine, self.margin)
        if self.easy_margin:
            return torch.where(cosine > 0, shifted, cosine)
        turning = math.cos(math.pi - self.margin)
        return torch.where(cosine > turning, shifted, cosine - self.margin * math.sin(self.margin))
