"""The step schedule against torch's own."""

from __future__ import annotations

import pytest
import torch

from train.config.sections import OptimConfig, ScheduleConfig
from train.optim import learning_rate


@pytest.mark.parametrize("every", [1, 3, 10])
def test_learning_rate_is_torchs_step_schedule(every):
    config, schedule = OptimConfig(lr=0.01), ScheduleConfig(gamma=0.7, every=every, unit="steps")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.lr)
    reference = torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=schedule.gamma)
    for step in range(30):
        assert learning_rate(config, schedule, step, epoch=0) == pytest.approx(
            reference.get_last_lr()[0], rel=1e-12
        )
        optimizer.step()
        reference.step()


def test_epochs_count_where_asked():
    schedule = ScheduleConfig(gamma=0.5, every=2, unit="epochs")
    rates = [learning_rate(OptimConfig(lr=1.0), schedule, 999, epoch) for epoch in range(5)]
    assert rates == [1.0, 1.0, 0.5, 0.5, 0.25]
