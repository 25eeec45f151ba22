"""All that is known of an evaluation, as its files and pages are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from eval.embeddings import Embeddings
from eval.speakers import contradictions
from eval.trials import Trials
from shard_tools.arrays import Float64Array


@dataclass(frozen=True)
class Person:
    """What a meta file says of a speaker."""

    gender: str
    nationality: str


@dataclass(frozen=True, eq=False)
class Evaluation:
    """scores: float64 (T,), one a trial, in the list's order; metrics: as in metrics.json; config: the run's.

    embeddings: of the trials' utterances at least, for the map and the lengths; speakers: of each of
    `trials.names`, None where that is not known (`known_speakers` is what to use of them); meta: by speaker;
    audio: links of utterances, relative to the page, by name.
    """

    scores: Float64Array
    trials: Trials
    metrics: Mapping[str, Any]
    config: Mapping[str, Any]
    embeddings: Embeddings | None = None
    speakers: tuple[str, ...] | None = None
    meta: Mapping[str, Person] | None = None
    audio: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def contradiction(self) -> str | None:
        """Why `speakers` cannot be who speaks, by the list's labels; None where they can or are not known."""
        trials = self.trials
        if self.speakers is None or not len(wrong := contradictions(self.speakers, trials)):
            return None
        first = int(wrong[0])
        left, right = trials.names[trials.left[first]], trials.names[trials.right[first]]
        kind = "one speaker" if trials.label[first] == 1 else "two"
        return (
            f"{len(wrong):,} trials contradict the speakers by folder or shard, as {left} and {right}, which "
            f"the list says are of {kind}"
        )

    @property
    def known_speakers(self) -> tuple[str, ...] | None:
        """`speakers`, unless the list contradicts them."""
        return None if self.contradiction else self.speakers
