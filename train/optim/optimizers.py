"""Optimisers: torch's, with their options, and what each keeps of every parameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import torch

from models.options import ModelError, Within
from train.uncompiled import eager

_Tiny = Annotated[float, Within(0, 1)]
_Decay = Annotated[float, Within(0, 0.999999)]


@dataclass(frozen=True)
class Optimizer:
    """make: (parameter groups, lr=, weight_decay=) → the optimiser.

    kept: the tensors of each parameter's shape that it keeps, by name; counts: whether it counts the
    steps of each parameter beside them, as "step".
    """

    make: Callable[..., torch.optim.Optimizer]
    kept: tuple[str, ...]
    counts: bool = True


def adam(*, beta1: _Decay = 0.9, beta2: _Decay = 0.999, eps: _Tiny = 1e-8, fused: bool = False) -> Optimizer:
    """Adam (Kingma & Ba 2015); the weight decay is an L2 penalty in the gradient.

    fused: one kernel for all parameters, sooner where a GPU waits for kernels to be launched.
    """
    return _with_moments(torch.optim.Adam, beta1, beta2, eps, fused)


def adamw(*, beta1: _Decay = 0.9, beta2: _Decay = 0.999, eps: _Tiny = 1e-8, fused: bool = False) -> Optimizer:
    """AdamW (Loshchilov & Hutter 2019): Adam whose weight decay acts on the weights themselves.

    fused: as Adam's.
    """
    return _with_moments(torch.optim.AdamW, beta1, beta2, eps, fused)


def sgd(*, momentum: _Decay = 0.9, nesterov: bool = False) -> Optimizer:
    """Stochastic gradient descent, with momentum (nesterov needs some)."""
    if nesterov and momentum == 0:
        raise ModelError("optimizer \"sgd\": option 'nesterov' is True, and momentum is 0: raise that")
    made: Any = partial(eager(torch.optim.SGD), momentum=momentum, nesterov=nesterov)
    return Optimizer(made, ("momentum_buffer",) if momentum else (), counts=False)


def _with_moments(kind: Any, beta1: float, beta2: float, eps: float, fused: bool) -> Optimizer:
    made: Any = partial(eager(kind), betas=(beta1, beta2), eps=eps, fused=fused)
    return Optimizer(made, ("exp_avg", "exp_avg_sq"))
