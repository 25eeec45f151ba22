"""What is asked for is set, and put back by a run that does not ask for it."""

from __future__ import annotations

import os

import pytest
import torch

from shard_tools.errors import UserError
from train.algorithms import choose_algorithms
from train.config.parsing import parse
from train.config.sections import TrainConfig


def found() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def test_algorithms_are_chosen_and_put_back(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    choose_algorithms(TrainConfig(steps=1, deterministic=True))
    assert found() == (True, True, False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    choose_algorithms(TrainConfig(steps=1, cudnn_benchmark=True))
    assert found() == (False, False, True)
    choose_algorithms(TrainConfig(steps=1))
    assert found() == (False, False, False)


def test_both_are_too_much():
    words = ["--config", "configs/tiny.yaml", "--data.url", "x"]
    with pytest.raises((UserError, SystemExit)):
        parse([*words, "--train.deterministic", "true", "--train.cudnn_benchmark", "true"])
