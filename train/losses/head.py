"""Losses with a classification head, a row of weights or some for each speaker, whole or in shards."""

from __future__ import annotations

from abc import abstractmethod

import torch

from train.losses.base import LossOutput, SpeakerLoss, classify
from train.losses.classes import Classes
from train.losses.sharded import classify_sharded, gather_batch

Places = tuple[torch.Tensor, torch.Tensor]
"""Rows (N,) and columns (N,), int64, of entries of a table."""


class HeadLoss(SpeakerLoss):
    """Base of the losses that are cross-entropy over a head's logits: a subclass writes the logits.

    With `classes` that are shared, each process has the weights of its own classes and the logits (all
    ranks' rows, own classes), so that none ever holds the whole head. Loss, accuracy and gradients are
    those of the whole head. Every parameter has equally many rows for each class, in the order of the
    classes; its gradient is that of the mean over all ranks' rows, not to be averaged over ranks again. The
    embeddings' gradients are to be, as those of other losses: see `gather_rows`.

    Constructor: (embedding_size, speakers, utterances_per_speaker, classes=None, *, options…); without
    classes the head is whole.
    """

    def __init__(self, speakers: int, classes: Classes | None) -> None:
        super().__init__()
        self.classes = classes or Classes(speakers)

    @abstractmethod
    def scores(self, embeddings: torch.Tensor) -> torch.Tensor:
        """(B, D) → (B, own classes): the logits before margins and scaling, for the caller to change."""

    def logits(self, scores: torch.Tensor, right: Places) -> torch.Tensor:
        """`scores` with the margins, scaled, perhaps in place; `right`: the right speakers' among them."""
        return scores

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (B, D), labels (B,) int64."""
        if not self.classes.shared:
            right = torch.arange(len(labels), device=labels.device), labels
            return classify(self.logits(self.scores(embeddings), right), labels)
        rows, targets, own = gather_batch(embeddings, labels)
        columns = targets - self.classes.first
        places = ((columns >= 0) & (columns < self.classes.count)).nonzero().squeeze(1)
        right = places, columns[places]
        logits = self.logits(self.scores(rows), right)
        return classify_sharded(logits, right, targets, self.classes.first, own)

    def sharded(self) -> dict[torch.nn.Parameter, Classes]:
        return dict.fromkeys(self.parameters(), self.classes) if self.classes.shared else {}
