"""How far a run has come: what schedules, margins and the like are functions of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Before the step number `step`, counted from 0.

    epoch: the step's, from 0; epochs: passed so far, with their fraction (by windows of shards, which
    differ a little, about); last: steps of the whole run; seed: the run's.
    """

    step: int
    epoch: int
    epochs: float
    last: int
    seed: int = 0
