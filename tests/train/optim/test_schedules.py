"""The step schedule against torch's own."""

from __future__ import annotations

import math

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


def test_the_exponential_schedule_is_wespeakers():
    """From 0.1 to 6e-5 over 1000 steps of 10 epochs, of which 2 warm up."""
    schedule = build_schedule("exponential", {"final": 6e-4, "warm_up": 2.0})
    for step in range(1000):
        wanted = 0.1 * math.exp(step / 1000 * math.log(6e-5 / 0.1)) * min(1.0, step / 200)
        assert 0.1 * schedule(Progress(step, step // 100, step / 100, 1000)) == pytest.approx(
            wanted, rel=1e-9
        )


def test_the_cosine_schedule_is_torchs():
    schedule = build_schedule("cosine", {"final": 0.1})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=40, eta_min=0.1)
    for step in range(40):
        assert schedule(Progress(step, 0, 0.0, 40)) == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        reference.step()
    warm = build_schedule("cosine", {"warm_up": 1.0})
    assert warm(Progress(0, 0, 0.0, 40)) == 0
    assert warm(Progress(5, 0, 0.5, 40)) == pytest.approx(0.5 * 0.5 * (1 + math.cos(math.pi / 8)))
