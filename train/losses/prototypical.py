"""Prototypical loss."""

from __future__ import annotations

from typing import ClassVar

import torch

from train.losses.base import LossOutput, SpeakerLoss, classify
from train.losses.gather import gather_rows
from train.losses.groups import check_group, grouped


class Prototypical(SpeakerLoss):
    """Tell each speaker's prototype from those of all speakers in the global batch, by distance.

    Snell et al., "Prototypical networks for few-shot learning", 2017, with one query each, as
    Chung et al. 2020 use it: a speaker's first utterance is the query, the mean of the others the
    prototype, and the logits are minus the squared Euclidean distances. Prototypes of *all*
    ranks; see AngularPrototypical for what that makes of gradients. Embeddings are not normalised:
    evaluate with `--scoring euclidean`.
    """

    compares_rows: ClassVar = True

    def __init__(self, embedding_size: int, speakers: int, utterances_per_speaker: int) -> None:
        super().__init__()
        check_group("prototypical", utterances_per_speaker)
        self.utterances_per_speaker = utterances_per_speaker

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        """embeddings (P * K, D), K consecutive rows of each of P speakers; the labels' values are not needed.

        Raises ModelError when the number of rows is not a multiple of K.
        """
        groups = grouped(embeddings, self.utterances_per_speaker)
        queries = groups[:, 0]
        prototypes, offset = gather_rows(groups[:, 1:].mean(dim=1))
        targets = offset + torch.arange(len(queries), device=queries.device)
        return classify(-squared_distances(queries, prototypes), targets)


def squared_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(N, D), (M, D) → (N, M). By differences: |a|² - 2ab + |b|² loses the digits of near ones."""
    return (first[:, None] - second[None]).square().sum(dim=2)
