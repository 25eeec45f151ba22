"""Ranks of a test, as processes that load torch once for all of them and for all such tests of a process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp

PRELOADED = (
    "train.learner",
    "models.registry",
    "eval.embed_all",
    "torch.nn.parallel",
    "torch._dynamo",  # which DistributedDataParallel and optimisers load
)


def start_ranks(rank: Callable[..., None], world: int, *arguments: Any, join: bool = True) -> Any:
    """Run `rank(number, *arguments)` in so many processes; as torch's start_processes.

    A fork server has no threads that a fork could break. It starts once: what it loads is the same for all.
    """
    multiprocessing.set_forkserver_preload(list(PRELOADED))
    return mp.start_processes(rank, args=arguments, nprocs=world, start_method="forkserver", join=join)
