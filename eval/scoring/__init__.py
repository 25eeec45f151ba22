"""From embeddings to scores of trials: ways to score by name, one line here and one file beside this one."""

from __future__ import annotations

from collections.abc import Callable

from eval.scoring.base import Scorer
from eval.scoring.direct import Cosine, Euclidean

__all__ = ["SCORERS", "Scorer", "build_scorer"]

SCORERS: dict[str, Callable[[], Scorer]] = {"cosine": Cosine, "euclidean": Euclidean}


def build_scorer(name: str) -> Scorer:
    """A scorer that has learnt nothing yet. Raises ValueError for an unknown name."""
    if name not in SCORERS:
        raise ValueError(f"unknown scoring {name!r}; one of {', '.join(SCORERS)}")
    return SCORERS[name]()
