"""The learnt scale and offset of losses over cosines."""

from __future__ import annotations

import torch

LEAST_SCALE = 1e-6


def scaled(cosines: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """w · cosines + b, with w held above zero, as the papers ask.

    The VoxCeleb trainer asks for the same but drops the result of its clamp; with w above zero, which is
    where training keeps it, the two agree. The gradient passes the bound as if it were not there, so a
    w that was pushed below can come back.
    """
    return cosines * (w + (w.clamp(min=LEAST_SCALE) - w).detach()) + b
