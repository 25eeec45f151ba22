"""Softmax and angular prototypical loss together."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch

from models.options import Within
from train.losses.angleproto import AngularPrototypical
from train.losses.base import LossOutput, SpeakerLoss
from train.losses.groups import check_group
from train.losses.scale import LEAST_SCALE
from train.losses.softmax import Softmax


class SoftmaxPrototypical(SpeakerLoss):
    """The sum of softmax cross-entropy over all rows and the angular prototypical loss.

    Kwon et al., "The ins and outs of speaker recognition: lessons from VoxSRC 2020",
    ICASSP 2021. The accuracy is the softmax's.

    init_w, init_b: where the prototypical loss's scale w and offset b begin.
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
        check_group("softmaxproto", utterances_per_speaker)
        self.softmax = Softmax(embedding_size, speakers, utterances_per_speaker)
        self.prototypical = AngularPrototypical(
            embedding_size, speakers, utterances_per_speaker, init_w=init_w, init_b=init_b
        )

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (P * K, D), K consecutive rows of each of P speakers; labels (P * K,) int64."""
        told = self.softmax.compute(embeddings, labels)
        return LossOutput(told.loss + self.prototypical.compute(embeddings, labels).loss, told.accuracy)
