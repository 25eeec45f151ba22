"""Training: the plan of batches, augmentation, losses, the trainer and its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from train.config.parsing import parse
    from train.config.sections import Config
    from train.data.batches import open_batches
    from train.losses import build_loss

__all__ = ["Config", "build_loss", "open_batches", "parse"]

_HOMES = {
    "Config": "train.config.sections",
    "build_loss": "train.losses",
    "open_batches": "train.data.batches",
    "parse": "train.config.parsing",
}


def __getattr__(name: str) -> Any:
    """Found when asked for: `python -m train` listens to signals before it waits for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'train' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
