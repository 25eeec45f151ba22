"""Optimisers and schedules by name: one line here and one function make one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models.options import check_name, complete_options, describe_options
from train.optim.optimizers import Optimizer, adam, adamw, sgd
from train.optim.schedules import Schedule, cosine, exponential, step

__all__ = [
    "Optimizer",
    "Schedule",
    "build_optimizer",
    "build_schedule",
    "describe_optimizers",
    "describe_schedules",
    "optimizer_options",
    "schedule_options",
]

_OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {"adam": adam, "adamw": adamw, "sgd": sgd}
_SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "cosine": cosine,
    "exponential": exponential,
    "step": step,
}


def optimizer_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of the optimiser `name`, checked. Raises ModelError."""
    check_name("optimizer", name, _OPTIMIZERS)
    return complete_options(f'optimizer "{name}"', _OPTIMIZERS[name], options)


def schedule_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of the schedule `name`, checked. Raises ModelError."""
    check_name("schedule", name, _SCHEDULES)
    return complete_options(f'schedule "{name}"', _SCHEDULES[name], options)


def build_optimizer(name: str, options: Mapping[str, Any]) -> Optimizer:
    """How to make an optimiser, and what it keeps of each parameter. Raises ModelError."""
    checked = optimizer_options(name, options)
    return _OPTIMIZERS[name](**checked)


def build_schedule(name: str, options: Mapping[str, Any]) -> Schedule:
    """The learning rate's factor as a function of a run's progress. Raises ModelError."""
    checked = schedule_options(name, options)
    return _SCHEDULES[name](**checked)


def describe_optimizers() -> dict[str, list[str]]:
    """Name → a line for each option."""
    return {name: describe_options(_OPTIMIZERS[name]) for name in sorted(_OPTIMIZERS)}


def describe_schedules() -> dict[str, list[str]]:
    """Name → a line for each option."""
    return {name: describe_options(_SCHEDULES[name]) for name in sorted(_SCHEDULES)}
