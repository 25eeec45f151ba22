"""The learning rate as a pure function of the step: nothing to save, nothing to replay."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

from models.options import Within
from train.progress import Progress

Schedule = Callable[[Progress], float]
"""How far a run has come → what its learning rate is multiplied by."""


def exponential(
    *, final: Annotated[float, Within(1e-12, 1)] = 1e-3, warm_up: Annotated[float, Within(0, 1_000_000)] = 0.0
) -> Schedule:
    """Multiplied by the same factor at every step, to `final` at the run's end, as wespeaker's.

    warm_up: epochs in which it grows from 0 besides, as a line.
    """

    def factor(progress: Progress) -> float:
        return _warmth(progress, warm_up) * float(final ** (progress.step / progress.last))

    return factor


def cosine(
    *, final: Annotated[float, Within(0, 1)] = 0.0, warm_up: Annotated[float, Within(0, 1_000_000)] = 0.0
) -> Schedule:
    """Half a period of a cosine, from 1 to `final` at the run's end (Loshchilov and Hutter, "SGDR", 2017).

    warm_up: epochs in which it grows from 0 besides, as a line.
    """

    def factor(progress: Progress) -> float:
        wave = 0.5 * (1 + math.cos(math.pi * min(1.0, progress.step / progress.last)))
        return _warmth(progress, warm_up) * (final + (1 - final) * wave)

    return factor


def _warmth(progress: Progress, epochs: float) -> float:
    return 1.0 if progress.epochs >= epochs else progress.epochs / epochs


def step(
    *,
    gamma: Annotated[float, Within(0, 10)] = 0.95,
    every: Annotated[int, Within(1, 1_000_000_000)] = 10,
    unit: Literal["epochs", "steps"] = "epochs",
) -> Schedule:
    """Multiplied by gamma after every so many epochs or steps, as torch's StepLR; by 1, it is constant."""

    def factor(progress: Progress) -> float:
        passed = progress.epoch if unit == "epochs" else progress.step
        return float(gamma ** (passed // every))

    return factor
