"""From embeddings to scores of trials: ways to score by name, one line here and one file beside this one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eval.scoring.base import Learns, Scorer
from eval.scoring.cosine import Cosine
from eval.scoring.euclidean import Euclidean
from eval.scoring.plda import PLDA
from eval.scoring.projected import LDA, Centred, Whitening
from models.options import check_name, complete_options, describe_options

__all__ = [
    "SCORERS",
    "Learns",
    "Scorer",
    "build_scorer",
    "complete",
    "learns",
    "needs_training",
    "options_of",
]

SCORERS: dict[str, Callable[..., Scorer]] = {
    "cosine": Cosine,
    "euclidean": Euclidean,
    "centred": Centred,
    "whitening": Whitening,
    "lda": LDA,
    "plda": PLDA,
}


def build_scorer(name: str, options: Mapping[str, Any] | None = None) -> Scorer:
    """A scorer that has learnt nothing yet. Raises ModelError for an unknown name or option."""
    check_name("scoring", name, SCORERS)
    return SCORERS[name](**complete(name, options or {}))


def complete(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """`options` with the defaults of those that are not given. Raises ModelError."""
    return complete_options(f"scoring {name!r}", SCORERS[name], options)


def learns(name: str) -> Learns:
    """From what `fit` of this way of scoring learns: "nothing", "utterances" or "speakers" (with labels)."""
    return build_scorer(name).learns


def needs_training(name: str) -> bool:
    """Whether it must be fitted before it scores."""
    return learns(name) != "nothing"


def options_of(name: str) -> list[str]:
    """A line for each option: its name, what it may be, and its default."""
    check_name("scoring", name, SCORERS)
    return describe_options(SCORERS[name])
