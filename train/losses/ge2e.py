"""Generalised end-to-end loss."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import nn

from models.options import Within
from train.losses.base import LossOutput, SpeakerLoss, classify
from train.losses.gather import gather_rows
from train.losses.groups import check_group, grouped
from train.losses.scale import LEAST_SCALE, scaled

_LEAST_COSINE = 1e-6


class GE2E(SpeakerLoss):
    """Tell for each utterance its own speaker's centroid from those of all speakers in the global batch.

    Wan et al., "Generalized end-to-end loss for speaker verification", ICASSP 2018 (its softmax
    variant), as the VoxCeleb trainer (MIT licence) has it: cosines below 1e-6 count as that. The logits are
    w · cos(utterance, centroid) + b, and an utterance has no part in the centroid of its own speaker
    that it is compared with. One row for each local utterance, one column for each speaker of *all*
    ranks; see AngularPrototypical for what that makes of gradients.

    init_w, init_b: where the scale w and the offset b begin.
    """

    compares_rows: ClassVar = True

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        *,
        init_w: Annotated[float, Within(LEAST_SCALE, 1000)] = 10.0,
        init_b: Annotated[float, Within(-1000, 1000)] = -5.0,
    ) -> None:
        super().__init__()
        check_group("ge2e", utterances_per_speaker)
        self.utterances_per_speaker = utterances_per_speaker
        self.w = nn.Parameter(torch.tensor(init_w))
        self.b = nn.Parameter(torch.tensor(init_b))

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (P * K, D), K consecutive rows of each of P speakers; the labels' values are not needed.

        Raises ModelError when the number of rows is not a multiple of K.
        """
        count = self.utterances_per_speaker
        groups = grouped(embeddings, count)  # (P, K, D)
        sums = groups.sum(dim=1)
        centroids, offset = gather_rows(F.normalize(sums))
        rows = F.normalize(groups, dim=2)
        own = (rows * F.normalize(sums[:, None] - groups, dim=2)).sum(dim=2)  # (P, K), without themselves
        cosines = rows.flatten(0, 1) @ centroids.T  # (P * K, all speakers)
        targets = (offset + torch.arange(len(groups), device=cosines.device)).repeat_interleave(count)
        cosines = cosines.scatter(1, targets[:, None], own.reshape(-1, 1))
        return classify(scaled(cosines.clamp(min=_LEAST_COSINE), self.w, self.b), targets)
