"""Additive-angular-margin softmax with sub-centres and an inter-top-k penalty."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.options import Within
from train.losses.angle import joined, turned
from train.losses.classes import Classes
from train.losses.head import HeadLoss, Places
from train.losses.initial import xavier_uniform
from train.losses.margin import GrowingMargin
from train.losses.sharded import hardest

_USUAL_MARGIN = 0.2
_NO_MARGIN = 1e-3


class SubcentreAAMSoftmax(GrowingMargin, HeadLoss):
    """AAM-softmax over the best of several centres of a speaker, harder still on the most similar others.

    Deng et al., "Sub-center ArcFace: boosting face recognition by large-scale noisy web faces", ECCV
    2020; Zhao et al., "Multi-query multi-head attention pooling and inter-topk penalty for speaker
    verification", ICASSP 2022; as wespeaker (Apache-2.0) has them together. A speaker's cosine is
    the highest of its centres'. The right one becomes cos(θ + margin) (beyond θ = π - margin, cos θ - 1 +
    cos margin), and of the wrong ones the `top_k` highest become cos(θ - p), where
    p = penalty · margin / 0.2, and 0 for margins up to 0.001: it grows with the margin.

    margin, easy_margin, scale, margin_initial, margin_begins, margin_ends, margin_growth: as for aamsoftmax.
    centres: of each speaker. top_k: how many wrong speakers are made harder (all where there are fewer); 0
    turns the penalty off, as for large-margin fine-tuning. penalty: in radians, at a margin of 0.2.
    """

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        classes: Classes | None = None,
        *,
        margin: Annotated[float, Within(0, math.pi / 2)] = 0.2,
        scale: Annotated[float, Within(1e-3, 1000)] = 32.0,
        easy_margin: bool = False,
        centres: Annotated[int, Within(1, 100)] = 3,
        top_k: Annotated[int, Within(0, 10_000)] = 5,
        penalty: Annotated[float, Within(0, math.pi / 2)] = 0.06,
        margin_initial: Annotated[float, Within(0, math.pi / 2)] = 0.0,
        margin_begins: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_ends: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_growth: Literal["exponential", "linear"] = "exponential",
    ) -> None:
        super().__init__(speakers, classes)
        self.grow(margin, margin_initial, margin_begins, margin_ends, margin_growth)
        self.scale = scale
        self.easy_margin = easy_margin
        self.centres = centres
        self.top_k = min(top_k, speakers - 1)
        self.penalty = penalty
        self.weight = nn.Parameter(xavier_uniform(self.classes, centres, embedding_size))

    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        return cosines.view(len(embeddings), -1, self.centres).max(dim=2).values

    def logits(self, scores: torch.Tensor, right: Places) -> torch.Tensor:
        penalty = self.penalty * self.margin / _USUAL_MARGIN if self.margin > _NO_MARGIN else 0.0
        if self.top_k > 0 and penalty > 0:
            hard = hardest(scores, right, self.top_k, self.classes.shared)
            scores[hard] = turned(scores[hard], -penalty)
        scores[right] = joined(scores[right], self.margin, easy=self.easy_margin)
        return scores.mul_(self.scale)
