"""From embeddings to scores, all the way: a scorer, normalisation against a cohort, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from eval.calibration import Calibration, CohortStatistics, measure
from eval.calibration.quality import kinds_of
from eval.embeddings import Embeddings
from eval.scoring import Scorer
from eval.scoring.norm import Kind, normalise
from eval.trials import Trials
from shard_tools.arrays import Float64Array


@dataclass(frozen=True)
class Norm:
    """kind: z, t, s or as; cohort: whom every utterance is compared with; name: of that, for people; top: of
    AS-norm."""

    kind: Kind
    cohort: Embeddings
    name: str
    top: int = 300

    @property
    def text(self) -> str:
        """In words, which a calibration of such scores remembers."""
        best = f", top {self.top}" if self.kind == "as" else ""
        return f"{self.kind}-norm{best}, cohort of {len(self.cohort)}: {self.name}"


@dataclass(frozen=True)
class Backend:
    """name: of the `scorer`, which has learnt what it must; norm, calibration: None for none."""

    name: str
    scorer: Scorer
    norm: Norm | None = None
    calibration: Calibration | None = None

    def facts(self) -> dict[str, Any]:
        """How scores come about, for metrics.json."""
        return {"scoring": self.name, "normalisation": None if self.norm is None else self.norm.text}

    def score(
        self, embeddings: Embeddings, trials: Trials, how: Mapping[str, Any], *, progress: bool = False
    ) -> Float64Array:
        """Scores of `trials`, float64 (T,); log-likelihood ratios (nats) with a calibration.

        how: the fields of metrics.json that a calibration checks. Raises UserError for a calibration of
        other scores, and as scorers, normalisation and quality measures do.
        """
        if self.calibration is not None:
            self.calibration.check(embeddings.made_by, how)
        scores = self.scorer.score(embeddings, trials, progress=progress)
        statistics = None
        if self.norm is not None:
            norm = self.norm
            found = normalise(
                norm.kind, self.scorer, scores, embeddings, trials, norm.cohort, norm.top, progress=progress
            )
            scores, statistics = found.scores, CohortStatistics(found.mean, found.std)
        if self.calibration is None:
            return scores
        kinds = kinds_of(self.calibration.quality)
        quality = measure(kinds, trials, embeddings, statistics) if kinds else None
        return self.calibration.apply(scores, quality)
