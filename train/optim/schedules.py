"""The learning rate as a pure function of the step: nothing to save, nothing to replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from models.options import Within
from train.progress import Progress

Schedule = Callable[[Progress], float]
"""How far a run has come → what its learning rate is multiplied by."""


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
