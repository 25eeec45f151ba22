"""The optimiser and its learning rate, a pure function of the step: nothing to save, nothing to replay."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from train.config.sections import OptimConfig, ScheduleConfig


def build_optimizer(parameters: Iterable[torch.nn.Parameter], config: OptimConfig) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=config.lr, weight_decay=config.weight_decay)


def learning_rate(config: OptimConfig, schedule: ScheduleConfig, step: int, epoch: int) -> float:
    """The rate of a step: lr * gamma ** (whole periods passed), as torch's StepLR."""
    passed = epoch if schedule.unit == "epochs" else step
    return config.lr * schedule.gamma ** (passed // schedule.every)
