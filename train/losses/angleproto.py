"""Angular prototypical loss."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import nn

from models.options import ModelError, Within
from train.losses.base import LossOutput, SpeakerLoss, classify
from train.losses.gather import gather_rows

_LEAST_SCALE = 1e-6


class AngularPrototypical(SpeakerLoss):
    """Tell each speaker's prototype from those of all speakers in the global batch.

    Chung et al., "In defence of metric learning for speaker recognition", 2020.
    A speaker's first utterance is the query, the mean of the others the prototype;
    the logits are w · cos(query, prototype) + b with learnt w > 0 and b, one row per local
    speaker and one column per speaker of *all* ranks. So the mean over ranks of
    the local losses is the loss of the global batch, and with
    DistributedDataParallel its gradients are those of one process that sees the whole
    batch. Ranks must hold equally many speakers, all different.

    The scale is held above zero, as the paper asks. The VoxCeleb trainer asks for the
    same but drops the result of its clamp; with w above zero, which is where
    training keeps it, the two agree. The gradient passes the bound as if it were not
    there, so a w that was pushed below can come back.

    init_w, init_b: where the scale w and the offset b begin.
    """

    def __init__(
        self,
        embedding_size: int,
        speakers: int,
        utterances_per_speaker: int,
        *,
        init_w: Annotated[float, Within(_LEAST_SCALE, 1000)] = 10.0,
        init_b: Annotated[float, Within(-1000, 1000)] = -5.0,
    ) -> None:
        super().__init__()
        if utterances_per_speaker < 2:
            raise ModelError(
                'loss "angleproto" compares utterances of one speaker and needs at least 2: '
                f"batch.utterances_per_speaker is {utterances_per_speaker}"
            )
        self.utterances_per_speaker = utterances_per_speaker
        self.w = nn.Parameter(torch.tensor(init_w))
        self.b = nn.Parameter(torch.tensor(init_b))

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (P * K, D), K consecutive rows of each of P speakers; the labels' values are not needed.

        Raises ModelError when the number of rows is not a multiple of K.
        """
        rows, size = embeddings.shape
        if rows % self.utterances_per_speaker:
            raise ModelError(
                f"a batch of {rows} embeddings is not made of groups of {self.utterances_per_speaker} "
                "(batch.utterances_per_speaker)"
            )
        grouped = embeddings.view(-1, self.utterances_per_speaker, size)
        queries = F.normalize(grouped[:, 0])
        prototypes, offset = gather_rows(F.normalize(grouped[:, 1:].mean(dim=1)))
        scale = self.w + (self.w.clamp(min=_LEAST_SCALE) - self.w).detach()
        logits = queries @ prototypes.T * scale + self.b
        targets = offset + torch.arange(len(queries), device=logits.device)
        return classify(logits, targets)
