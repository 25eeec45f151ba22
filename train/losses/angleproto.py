"""Angular prototypical loss."""

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


class AngularPrototypical(SpeakerLoss):
    """Tell each speaker's prototype from those of all speakers in the global batch.

    Chung et al., "In defence of metric learning for speaker recognition", 2020.
    A speaker's first utterance is the query, the mean of the others the prototype;
    the logits are w · cos(query, prototype) + b with learnt w > 0 and b, one row per local
    speaker and one column per speaker of *all* ranks. So the mean over ranks of
    the local losses is the loss of the global batch, and with
    DistributedDataParallel its gradients are those of one process that sees the whole
    batch. Ranks must hold equally many speakers, all different.

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
        check_group("angleproto", utterances_per_speaker)
        self.utterances_per_speaker = utterances_per_speaker
        self.w = nn.Parameter(torch.tensor(init_w))
        self.b = nn.Parameter(torch.tensor(init_b))

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (P * K, D), K consecutive rows of each of P speakers; the labels' values are not needed.

        Raises ModelError when the number of rows is not a multiple of K.
        """
        groups = grouped(embeddings, self.utterances_per_speaker)
        queries = F.normalize(groups[:, 0])
        prototypes, offset = gather_rows(F.normalize(groups[:, 1:].mean(dim=1)))
        targets = offset + torch.arange(len(queries), device=queries.device)
        return classify(scaled(queries @ prototypes.T, self.w, self.b), targets)
