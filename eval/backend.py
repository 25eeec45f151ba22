"""From embeddings to scores, all the way: a scorer, normalisation against a cohort, calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.calibration import Calibration, CohortStatistics, measure
from eval.calibration.quality import kinds_of
from eval.embeddings import Embeddings
from eval.scoring import Scorer
from eval.scoring.norm import Kind, normalise
from eval.trials import Trials
from shard_tools.arrays import Float64Array


@dataclass(frozen=True)
class Cohort:
    """members: whom every utterance is compared with; text: who that is, whatever the file is called;
    top: how many of the highest scores AS-norm and the quality measure cohort take; speakers: whose
    utterances it is of, where that is known."""

    members: Embeddings
    text: str
    top: int = 300
    speakers: frozenset[str] = frozenset()

    def statistics(self, scorer: Scorer, embeddings: Embeddings, trials: Trials) -> CohortStatistics:
        """The quality measure cohort: of each side's `top` highest scores. Raises UserError as normalise."""
        found = normalise("as", scorer, np.zeros(len(trials)), embeddings, trials, self.members, self.top)
        return CohortStatistics(found.mean, found.std)

    @property
    def measured(self) -> str:
        """What a calibration remembers of that."""
        return f"top {self.top} of {self.text}"


@dataclass(frozen=True)
class Backend:
    """name, options: of the `scorer`, which has learnt what it must; training: from whom, in words.

    norm: against the cohort, None for none; calibration: None for none.
    """

    name: str
    scorer: Scorer
    options: Mapping[str, Any] = field(default_factory=dict)
    training: str | None = None
    norm: Kind | None = None
    cohort: Cohort | None = None
    calibration: Calibration | None = None

    def facts(self) -> dict[str, Any]:
        """How scores come about, for metrics.json."""
        return {
            "scoring": self.name,
            "scoring_options": dict(self.options) or None,
            "training_set": self.training,
            "normalisation": self._normalisation,
            "quality_cohort": self.cohort.measured if self.cohort and "cohort" in self._kinds else None,
        }

    def score(
        self, embeddings: Embeddings, trials: Trials, how: Mapping[str, Any], *, progress: bool = False
    ) -> Float64Array:
        """Scores of `trials`, float64 (T,); log-likelihood ratios (nats) with a calibration.

        how: the fields of metrics.json that a calibration checks. Raises UserError for a calibration of
        other scores, and as scorers, normalisation and quality measures do.
        """
        if self.calibration is not None:
            self.calibration.check(embeddings.made_by, how)
        plain = scores = self.scorer.score(embeddings, trials, progress=progress)
        statistics = None
        if self.norm is not None:
            assert self.cohort is not None
            members, top = self.cohort.members, self.cohort.top
            found = normalise(
                self.norm, self.scorer, plain, embeddings, trials, members, top, progress=progress
            )
            scores = found.scores
            if self.norm == "as":
                statistics = CohortStatistics(found.mean, found.std)
        if self.calibration is None:
            return scores
        if "cohort" in self._kinds and statistics is None and self.cohort is not None:
            statistics = self.cohort.statistics(self.scorer, embeddings, trials)
        quality = measure(self._kinds, trials, embeddings, statistics) if self._kinds else None
        return self.calibration.apply(scores, quality)

    @property
    def _kinds(self) -> list[str]:
        return [] if self.calibration is None else kinds_of(self.calibration.quality)

    @property
    def _normalisation(self) -> str | None:
        if self.norm is None or self.cohort is None:
            return None
        best = f", top {self.cohort.top}" if self.norm == "as" else ""
        return f"{self.norm}-norm{best}, cohort of {self.cohort.text}"
