"""The options of optimiser and schedule in a run's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from models.options import Within


@dataclass
class OptimConfig:
    """The optimiser.

    Args:
        name: adam, adamw or sgd; their options are listed below.
        lr: Learning rate at step 0.
        weight_decay: L2 penalty (adamw: decay of the weights).
        rates: Beginnings of parameters' names and what lr is multiplied by there ({network.frontend: 0.1}).
        options: The optimiser's own options.
    """

    name: str = "adam"
    lr: Annotated[float, Within(1e-12, 1e30)] = 0.001
    weight_decay: Annotated[float, Within(0, 1000)] = 0.0
    rates: Annotated[dict[str, float], Within(0, 1000)] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class ScheduleConfig:
    """The learning-rate schedule.

    Args:
        name: step; its options are listed below.
        options: The schedule's own options.
    """

    name: str = "step"
    options: dict[str, Any] = field(default_factory=dict)
