"""What every loss is: embeddings and labels in; a loss and an accuracy out, in full precision."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from train.losses.classes import Classes
from train.progress import Progress


class LossOutput(NamedTuple):
    """What a loss returns.

    loss: scalar, mean over the local rows, to call backward on.
    accuracy: scalar in [0, 1], detached: the share of rows whose highest logit is the right one.
    """

    loss: torch.Tensor
    accuracy: torch.Tensor


class SpeakerLoss(nn.Module, ABC):
    """Base of the losses: a subclass writes `compute`, and need not think of autocast.

    Constructor: (embedding_size, speakers, utterances_per_speaker, *, options…).
    compares_rows: whether rows are compared with each other, so that all of a batch must come together;
    else the loss is a mean of what each row's is by itself.
    """

    compares_rows: ClassVar[bool] = False

    def begin(self, progress: Progress) -> None:
        """Told before each step how far the run has come, for what grows or shrinks with it.

        What is set here must be a function of `progress` alone, so that a resumed run goes on the same.
        """

    def figures(self) -> dict[str, float]:
        """What the log shows besides, such as a margin that moves: the same on every rank."""
        return {}

    def sharded(self) -> dict[nn.Parameter, Classes]:
        """The parameters of which each process has the rows of its own classes, and which those are."""
        return {}

    @abstractmethod
    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (B, D), float32 or wider; labels (B,) int64."""

    def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (B, D) of any floating type, labels (B,) int64, K consecutive rows of each speaker.

        Always computed in float32 (or wider, if the embeddings are): a margin of
        0.2 on a cosine times a scale of 30 is lost in the three digits of bfloat16.
        """
        with torch.autocast(embeddings.device.type, enabled=False):
            return self.compute(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)), labels)


def classify(logits: torch.Tensor, targets: torch.Tensor) -> LossOutput:
    """Cross-entropy (mean over rows) and accuracy of logits (B, C) against targets (B,) int64."""
    right = logits.detach().argmax(dim=1) == targets
    return LossOutput(F.cross_entropy(logits, targets), right.float().mean())
