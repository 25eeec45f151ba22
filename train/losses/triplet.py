"""Triplet loss, with negatives mined in the global batch."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from models.options import Within
from shard_tools.philox import uniform
from train.losses.base import LossOutput, SpeakerLoss
from train.losses.gather import gather_rows
from train.losses.groups import check_group, grouped
from train.losses.prototypical import squared_distances
from train.progress import Progress

_PURPOSE = "triplet negative"


class Triplet(SpeakerLoss):
    """Anchors nearer to their positives than to negatives of other speakers, by a margin.

    Schroff et al., "FaceNet", CVPR 2015, as Chung et al. 2020 use it: of two utterances of a
    speaker one is the anchor, the other the positive, and another speaker's is the negative, mined among the
    positives of *all* ranks. mean of max(0, |anchor - positive|² - |anchor - negative|² + margin) over
    normalised embeddings. The accuracy is the share of anchors whose positive is the nearer one.

    hard_rank: with the probability hard_prob the negative is one of the hard_rank + 1 nearest, else any;
    -1: one of those that are farther than the positive by less than the margin, any where there is
    none. Draws follow from the run's seed, the step and the row of the global batch.
    """

    compares_rows: ClassVar = True

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        *,
        margin: Annotated[float, Within(0, 4)] = 0.1,
        hard_rank: Annotated[int, Within(-1, 100_000)] = 0,
        hard_prob: Annotated[float, Within(0, 1)] = 0.5,
    ) -> None:
        super().__init__()
        check_group("triplet", utterances_per_speaker, most=2)
        self.margin, self.hard_rank, self.hard_prob = margin, hard_rank, hard_prob
        self._seed = self._step = 0

    def begin(self, progress: Progress) -> None:
        self._seed, self._step = progress.seed, progress.step

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (P * 2, D), 2 consecutive rows of each of P speakers; the labels' values are not needed.

        Raises ModelError when the number of rows is odd.
        """
        groups = grouped(embeddings, 2)
        anchors, positives = F.normalize(groups[:, 0]), F.normalize(groups[:, 1])
        others, offset = gather_rows(positives)
        distances = squared_distances(anchors, others)  # (P, all speakers)
        own = offset + torch.arange(len(anchors), device=anchors.device)
        negatives = self._mined(distances.detach(), own)
        to_positive = distances.gather(1, own[:, None]).squeeze(1)
        to_negative = distances.gather(1, negatives[:, None]).squeeze(1)
        nearer = (to_positive < to_negative).float().mean()
        return LossOutput(F.relu(to_positive - to_negative + self.margin).mean(), nearer.detach())

    def _mined(self, distances: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """(P, N) distances and the columns (P,) of the positives → columns (P,) of the negatives."""
        rows, columns = distances.shape
        numbers = self._step * columns + own.cpu().numpy().astype(np.int64)
        kind, which = (
            torch.from_numpy(uniform(self._seed, _PURPOSE, 0, numbers, slot)).to(distances.device)
            for slot in (0, 1)
        )
        if columns < 2:  # a batch of one speaker has no negatives: nothing to learn from it
            return own
        apart = distances.scatter(1, own[:, None], torch.inf)  # so that they come last
        nearest = apart.argsort(dim=1, stable=True)
        if self.hard_rank < 0:
            positive = distances.gather(1, own[:, None])
            fitting = (apart > positive) & (apart < positive + self.margin)
            first = (apart <= positive).sum(dim=1)  # in the order of distance, those that fit come next
            count = fitting.sum(dim=1)
            hard = count > 0
        else:
            first = torch.zeros_like(own)
            count = torch.full_like(own, min(self.hard_rank + 1, columns - 1))
            hard = kind < self.hard_prob
        first = torch.where(hard, first, 0)
        count = torch.where(hard, count, columns - 1)
        place = first + (which * count).long().clamp(max=columns - 2)
        return nearest[torch.arange(rows, device=own.device), place]
