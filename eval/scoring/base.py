"""What every way of scoring is: fitted on embeddings where it learns from some, then asked about trials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, Protocol

from eval.embeddings import Embeddings
from eval.trials import Trials
from shard_tools.arrays import Float64Array, FloatArray, Int64Array

Learns = Literal["nothing", "utterances", "speakers"]


class Scorer(Protocol):
    """A way to compare utterances by their embeddings. Fitting changes the scorer itself, and returns it.

    learns: from what `fit` learns: nothing; utterances of any speakers; or utterances and their speakers'
    labels. One that learns must be fitted before it scores. Options are keyword-only arguments
    (models/options.py). A class says how near float64 its scores are; the same pair of utterances
    may differ by that much between two lists.
    """

    learns: ClassVar[Learns]

    def fit(self, embeddings: Embeddings, labels: Int64Array | None = None) -> Scorer:
        """Learn from embeddings of other utterances than the trials', and return this scorer.

        labels: int64 (utterances,), the numbers of their speakers. Raises UserError for a set that is too
        small or degenerate.
        """

    def score(self, embeddings: Embeddings, trials: Trials, *, progress: bool = False) -> Float64Array:
        """A score for each trial, float64 (T,), higher for more alike.

        embeddings: of the trials' utterances at least. Raises UserError for one that is not there or not
        finite, for a scorer that has not been fitted, and for other dimensions than it was fitted on.
        """

    def against(
        self, embeddings: Embeddings, rows: Int64Array, others: Embeddings
    ) -> Iterator[tuple[slice, FloatArray]]:
        """Scores of the utterances embeddings.names[rows] with all `others`, in blocks of rows.

        Yields (which of `rows`, scores (those, others)); an array may be written to. Raises as `score` does.
        """
