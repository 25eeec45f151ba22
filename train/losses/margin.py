"""Margins that grow in the course of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.options import ModelError
from train.progress import Progress

_LEFT = 1e-3
"""Of the whole way, what an exponential growth has still to go at its end; there it is made up for."""


@dataclass(frozen=True)
class Growth:
    """A margin from `initial` to `final` between two epochs, as wespeaker's MarginScheduler has it.

    begins, ends: epochs, with their fractions; ends 0: the margin is `final` from the start. exponential:
    fast first and slowly later; else as a line.
    """

    initial: float
    final: float
    begins: float
    ends: float
    exponential: bool

    def __post_init__(self) -> None:
        if self.ends and self.ends <= self.begins:
            raise ModelError(
                f"margin_ends {self.ends:g} is not after margin_begins {self.begins:g}: the margin would not"
                " grow; give a later epoch, or 0 for the whole margin from the start"
            )

    @property
    def grows(self) -> bool:
        return self.ends > 0 and self.initial != self.final

    def at(self, epochs: float) -> float:
        """The margin after so many epochs."""
        if not self.grows or epochs >= self.ends:
            return self.final
        part = max(0.0, (epochs - self.begins) / (self.ends - self.begins))
        way = 1.0 - math.exp(part * math.log(_LEFT)) if self.exponential else part
        return self.initial + (self.final - self.initial) * way


class GrowingMargin:
    """What losses whose margin grows have in common."""

    growth: Growth
    margin: float

    def grow(self, final: float, initial: float, begins: float, ends: float, growth: str) -> None:
        """Raises ModelError for epochs between which nothing can grow."""
        self.growth = Growth(initial, final, begins, ends, growth == "exponential")
        self.margin = self.growth.at(0.0)

    def begin(self, progress: Progress) -> None:
        self.margin = self.growth.at(progress.epochs)

    def figures(self) -> dict[str, float]:
        return {"margin": self.margin} if self.growth.grows else {}
