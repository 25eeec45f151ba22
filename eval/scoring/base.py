"""What every way of scoring is: fitted on embeddings where it learns from some, then asked about trials."""

from __future__ import annotations

from typing import Protocol

from eval.embeddings import Embeddings
from eval.trials import Trials
from shard_tools.arrays import Float64Array, Int64Array


class Scorer(Protocol):
    """A way to compare utterances by their embeddings. Fitting changes the scorer itself, and returns it."""

    def fit(self, embeddings: Embeddings, labels: Int64Array | None = None) -> Scorer:
        """Learn from embeddings of other utterances than the trials', and return this scorer.

        They are a cohort, or with the `labels` (utterances,) of their speakers a training set.
        """

    def score(self, embeddings: Embeddings, trials: Trials, *, progress: bool = False) -> Float64Array:
        """A score for each trial, float64 (T,), higher for more alike.

        embeddings: of the trials' utterances at least. Raises UserError for one that is not there.
        """
