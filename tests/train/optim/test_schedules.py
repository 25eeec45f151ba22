"""The step schedule against torch's own."""

from __future__ import annotations

import pytest
import torch

from train.optim import build_schedule
from train.progress import Progress


@pytest.mark.parametrize("every", [1, 3, 10])
def test_the_step_schedule_is_torchs(every):
    schedule = build_schedule("step", {"gamma": 0.7, "every": every, "unit": "steps"})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    reference = torch.optim.lr_scheduler.StepLR(optimizer, step_size=every, gamma=0.7)
    for step in range(30):
        rate = 0.01 * schedule(Progress(step, 0, 0.0, 30))
        assert rate == pytest.approx(reference.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        reference.step()


def test_epochs_count_where_asked():
    schedule = build_schedule("step", {"gamma": 0.5, "every": 2, "unit": "epochs"})
    factors = [schedule(Progress(999, epoch, float(epoch), 5000)) for epoch in range(5)]
    assert factors == [1.0, 1.0, 0.5, 0.5, 0.25]
