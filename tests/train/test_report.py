"""Throughput counts all the time that steps took, with what a GPU has still to do, and nothing else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from train import report
from train.config.sections import DataConfig
from train.life.distributed import Process
from train.objectives import Outcome
from train.report import Reporter, Sums


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


class Late:
    """A figure on a GPU that has 3 s of steps to do before it can be read."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def item(self) -> float:
        self._clock.now += 3
        return 8.0


class Log:
    def __init__(self) -> None:
        self.record_of: dict[int, dict[str, float]] = {}

    def show(self, step: int, **figures: str) -> None:
        pass

    def record(self, step: int, kind: str, figures: dict[str, float]) -> None:
        self.record_of[step] = figures


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(report, "time", found)
    return found


def test_steps_that_a_gpu_has_still_to_do_count(clock):
    plan = SimpleNamespace(spec=SimpleNamespace(size=60), epochs_of=lambda step: [0])
    reporter = Reporter(plan, Process(0, 1, torch.device("cpu")), DataConfig(url="x"))
    sums = Sums(clock.now)
    for _ in range(2):
        sums.add(Outcome(torch.tensor(4.0), {}))
        clock.now += 1  # till it was sent to the GPU
    sums.paused = 0.5  # a checkpoint between them
    clock.now += 0.5
    sums._figures["loss"] = Late(clock)
    log = Log()
    loss, ended = reporter.report(2, sums, 0.1, {}, log)
    assert (loss, ended) == (4.0, 105.5)
    assert log.record_of[2]["utterances_per_second"] == pytest.approx(2 * 60 / 5.0)
