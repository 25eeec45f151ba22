"""Which algorithms torch takes on a GPU: the same ones each time, or the fastest."""

from __future__ import annotations

import os

import torch

from train.config.sections import TrainConfig


def choose_algorithms(train: TrainConfig) -> None:
    """For the rest of the process; to be called before anything is computed on a GPU.

    deterministic: what torch has only in another form raises RuntimeError, naming it, where it is met.
    """
    if torch.are_deterministic_algorithms_enabled() != train.deterministic:  # loads torch's compiler
        torch.use_deterministic_algorithms(train.deterministic)
    torch.backends.cudnn.deterministic = train.deterministic
    torch.backends.cudnn.benchmark = train.cudnn_benchmark
    if train.deterministic:
        # For finding faults, at a cost.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it first computes
