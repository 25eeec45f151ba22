"""Batches as groups: K consecutive rows of each speaker."""

from __future__ import annotations

import torch

from models.options import ModelError


def check_group(loss: str, utterances_per_speaker: int, *, least: int = 2, most: int | None = None) -> None:
    """Raise ModelError where `loss` has no meaning with so many utterances of a speaker."""
    few = utterances_per_speaker < least
    if few or (most is not None and utterances_per_speaker > most):
        needed = f"exactly {least}" if most == least else f"at least {least}"
        raise ModelError(
            f'loss "{loss}" compares utterances of one speaker and needs {needed}: '
            f"batch.utterances_per_speaker is {utterances_per_speaker}"
        )


def grouped(embeddings: torch.Tensor, utterances_per_speaker: int) -> torch.Tensor:
    """(P * K, D) → (P, K, D). Raises ModelError when the number of rows is not a multiple of K."""
    rows, size = embeddings.shape
    if rows % utterances_per_speaker:
        raise ModelError(
            f"a batch of {rows} embeddings is not made of groups of {utterances_per_speaker} "
            "(batch.utterances_per_speaker)"
        )
    return embeddings.view(-1, utterances_per_speaker, size)
