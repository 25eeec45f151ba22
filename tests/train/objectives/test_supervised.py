"""What the trainer trains: its parts, its figures, and what it is told."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from train.losses.base import LossOutput, SpeakerLoss
from train.objectives import Supervised
from train.objectives.base import rehearse
from train.progress import Progress


class Growing(SpeakerLoss):
    """A loss whose scale is the step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.scale = 0.0

    def begin(self, progress: Progress) -> None:
        self.scale = float(progress.step)

    def compute(self, embeddings: torch.Tensor, labels: torch.Tensor) -> LossOutput:
        loss = self.scale * (embeddings * self.weight).mean()
        return LossOutput(loss, (labels == 0).float().mean())


def objective() -> Supervised:
    torch.manual_seed(0)
    return Supervised(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2, affine=True)), Growing(), "fp32")


BATCH = {"audio": torch.arange(12.0).reshape(4, 3), "label": torch.tensor([0, 0, 0, 1])}


def test_a_batch_gives_a_loss_and_figures():
    made = objective()
    made.begin(Progress(3, 0, 0.1, 10))
    outcome = made(BATCH)
    assert outcome.loss.requires_grad
    assert {name: value.item() for name, value in outcome.figures.items()} == {"accuracy": 0.75}
    assert set(made.parts()) == {"network", "loss"}


def test_the_loss_is_told_the_step():
    made = objective().eval()
    made.begin(Progress(1, 0, 0.0, 10))
    once = made(BATCH).loss.item()
    made.begin(Progress(5, 0, 0.0, 10))
    assert made(BATCH).loss.item() == pytest.approx(5 * once, rel=1e-6)


def test_a_rehearsal_leaves_no_trace():
    made = objective()
    made.begin(Progress(1, 0, 0.0, 10))
    before = {name: value.clone() for name, value in made.state_dict().items()}
    rehearse(made, lambda: made(BATCH).loss.backward())
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())
