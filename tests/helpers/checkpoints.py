"""A checkpoint of a network that was never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from models.registry import build_network

SMALL = {"channels": 16, "embedding_size": 16}


def write_checkpoint(path: Path, name: str = "tdnn", options: dict[str, Any] = SMALL, **config: Any) -> str:
    """At `path`, of step 42; config: more of its run's configuration."""
    torch.manual_seed(0)
    torch.save(
        {
            "format": "voxshard-checkpoint",
            "version": 1,
            "step": 42,
            "config": {"model": {"name": name, "options": options}, "run": {"seed": 1}, **config},
            "network": build_network(name, options).state_dict(),
        },
        path,
    )
    return str(path)
