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
        clip: The norm that all gradients together are held to (null: as they come).
        no_decay: No weight decay on norms, biases and other parameters of one dimension.
        freeze: Beginnings of the names of parameters that stay as they are, running statistics too.
        rates: Beginnings of parameters' names and what lr is multiplied by there ({network.frontend: 0.1}).
        options: The optimiser's own options.
    """

    name: str = "adam"
    lr: Annotated[float, Within(1e-12, 1e30)] = 0.001
    weight_decay: Annotated[float, Within(0, 1000)] = 0.0
    clip: Annotated[float | None, Within(1e-12, 1e12)] = None
    no_decay: bool = False
    freeze: list[str] = field(default_factory=list)
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
