"""Seeding before every step."""

from __future__ import annotations

import torch


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed what a step on `device` draws from: the CPU's generator and the device's own.

    `torch.manual_seed` does that for every kind of accelerator, and for those not in use it notes the
    call with a formatted traceback: sixty times the work, in every step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
