"""SphereFace2: every speaker a question of its own."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import nn

from models.options import Within
from train.losses.angle import joined, turned
from train.losses.base import LossOutput, SpeakerLoss
from train.losses.margin import GrowingMargin


class SphereFace2(GrowingMargin, SpeakerLoss):
    """Binary classification, is it this speaker or not, summed over the speakers.

    Wen et al., "SphereFace2: binary classification is all you need for deep face recognition", ICLR
    2022; Han et al., "Exploring binary classification loss for speaker verification", ICASSP 2023; as
    wespeaker (Apache-2.0) has it. With g(z) = 2((z + 1) / 2)^t - 1 the loss of a row is
    positive_weight · log(1 + exp(-p)) of its speaker and (1 - positive_weight) · log(1 + exp(n)) of
    each other one, where, with the learnt bias b,

    - margin_type C: p = scale · (g(cos θ) - margin) + b, n = scale · (g(cos θ) + margin) + b;
    - margin_type A: p = scale · g(cos(θ + margin)) + b, n = scale · g(cos(θ - margin)) + b, and for θ beyond
      π - margin the former has cos θ - 1 + cos margin.

    The accuracy is the share of rows whose speaker's cosine less `margin` is the highest.

    margin_initial, margin_begins, margin_ends, margin_growth: as for aamsoftmax.
    """

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        *,
        margin: Annotated[float, Within(0, math.pi / 2)] = 0.2,
        scale: Annotated[float, Within(1e-3, 1000)] = 32.0,
        margin_type: Literal["A", "C"] = "C",
        positive_weight: Annotated[float, Within(0, 1)] = 0.7,
        t: Annotated[int, Within(1, 100)] = 3,
        margin_initial: Annotated[float, Within(0, math.pi / 2)] = 0.0,
        margin_begins: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_ends: Annotated[float, Within(0, 1_000_000)] = 0.0,
        margin_growth: Literal["exponential", "linear"] = "exponential",
    ) -> None:
        super().__init__()
        self.grow(margin, margin_initial, margin_begins, margin_ends, margin_growth)
        self.scale, self.margin_type, self.positive_weight, self.t = scale, margin_type, positive_weight, t
        self.weight = nn.Parameter(torch.empty(speakers, embedding_size))
        nn.init.xavier_uniform_(self.weight)
        self.bias = nn.Parameter(torch.zeros(1, 1))

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (B, D), labels (B,) int64."""
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        right = torch.arange(len(labels), device=labels.device), labels
        told = cosines.detach().clone()
        told[right] -= self.margin
        accuracy = (told.argmax(dim=1) == labels).float().mean()
        if self.margin_type == "A":
            own = self._spread(joined(cosines[right], self.margin))
            others = self._spread(turned(cosines, -self.margin))
        else:
            own = self._spread(cosines[right]) - self.margin
            others = self._spread(cosines) + self.margin
        bias = self.bias.squeeze()
        others = self.scale * others + bias
        others[right] = -torch.inf  # nothing of these: softplus makes 0 of it
        positive = F.softplus(-(self.scale * own + bias))
        negative = F.softplus(others).sum(dim=1)
        weight = self.positive_weight
        return LossOutput((weight * positive + (1.0 - weight) * negative).mean(), accuracy)

    def _spread(self, cosine: torch.Tensor) -> torch.Tensor:
        """g: cosines, which crowd around 0, spread over more of -1 to 1."""
        spread: torch.Tensor = 2.0 * ((cosine + 1.0) / 2.0).pow(self.t) - 1.0
        return spread
