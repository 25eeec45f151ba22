"""Parameters whose rows lie with several ranks: checkpoints hold them whole, as those of other runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from eval.checkpoint.file import CheckpointError
from train.losses.classes import Classes
from train.objectives import Objective

_GATHERED = 64 * 2**20
"""Bytes that rank 0 receives at a time, of all ranks together."""

State = dict[str, Any]


def leave_to_ranks(objective: Objective) -> None:
    """Have a DistributedDataParallel of `objective`, made afterwards, leave its sharded parameters alone.

    It neither makes rank 0's of them the others' nor averages their gradients, which are whole already.
    """
    sharded = objective.sharded()
    names = [name for name, parameter in objective.named_parameters() if parameter in sharded]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(objective, names)


def grad_scaler(objective: Objective, device: str, *, enabled: bool) -> torch.amp.GradScaler:
    """torch's scaler of gradients for fp16, which has all ranks skip a step that overflowed on one of them.

    Without shards that needs no help: the gradients are the same everywhere.
    """
    if not enabled or not objective.sharded():
        return torch.amp.GradScaler(device, enabled=enabled)
    from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler  # it takes half a second to load

    return ShardedGradScaler(device)


def whole_state(
    weights: dict[str, State], objective: Objective, optimizer: torch.optim.Optimizer
) -> tuple[dict[str, State], State]:
    """The weights of the objective's parts and the optimiser's state, as one process would have them.

    weights: by the part's name, as this rank has them. Every rank must call it after the same step. Shards
    are put together on rank 0, in the memory of its CPU; on the others they stay the rank's own. What is
    not sharded is not copied.
    """
    return _changed(
        weights,
        optimizer.state_dict(),
        objective,
        optimizer,
        lambda tensor, classes, _: _gathered(tensor, classes),
    )


def own_state(checkpoint: State, url: str, objective: Objective, optimizer: torch.optim.Optimizer) -> State:
    """`checkpoint` with this rank's rows of what is sharded.

    Raises CheckpointError where that holds NaN, in whichever rank's rows, so that all ranks refuse it. What
    cannot be cut, of another kind or shape, is left to the caller to refuse.
    """

    def cut(tensor: torch.Tensor, classes: Classes, name: str) -> torch.Tensor:
        return _cut(tensor, classes, f"{url}: {name}")

    weights = {name: checkpoint[name] for name in objective.parts() if isinstance(checkpoint.get(name), dict)}
    weights, moments = _changed(weights, checkpoint["optimizer"], objective, optimizer, cut)
    return {**checkpoint, **weights, "optimizer": moments}


def own_rows(weights: State, part: nn.Module, objective: Objective, url: str) -> State:
    """The whole `weights` of a part, with this rank's rows of what is sharded; as own_state."""
    sharded = objective.sharded()
    return weights | {
        key: _cut(weights[key], sharded[parameter], f"{url}: {key}")
        for key, parameter in part.named_parameters()
        if parameter in sharded and key in weights
    }


def _cut(tensor: torch.Tensor, classes: Classes, name: str) -> torch.Tensor:
    if tensor.layout != torch.strided or tensor.is_nested or len(tensor) % classes.total:
        return tensor
    if bool(tensor.isnan().any()):
        raise CheckpointError(f"{name} holds NaN; use another checkpoint")
    each = len(tensor) // classes.total
    first, last = classes.bounds(classes.rank)
    return tensor[first * each : last * each].clone()  # lets go of the others' rows


def gradient_norm(objective: Objective) -> torch.Tensor:
    """The 2-norm of all gradients, of every rank's shards too: a scalar, the same on every rank.

    After backward, every rank must call it. On one rank, and without shards, nothing is sent.
    """
    sharded = objective.sharded()
    kept, shards = list[torch.Tensor](), list[torch.Tensor]()
    for parameter in objective.parameters():
        if parameter.grad is not None:
            (shards if parameter in sharded else kept).append(parameter.grad)
    norm = nn.utils.get_total_norm(kept)
    if not shards:
        return norm
    squared = nn.utils.get_total_norm(shards).square()
    dist.all_reduce(squared)
    return (norm.to(squared.device).square() + squared).sqrt()


def clip_gradients(objective: Objective, most: float) -> torch.Tensor:
    """Scale all gradients so that their norm is at most `most`; returns what it was, see gradient_norm."""
    norm = gradient_norm(objective)
    nn.utils.clip_grads_with_norm_(objective.parameters(), most, norm)
    return norm


def _changed(
    weights: dict[str, State],
    moments: State,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    change: Callable[[torch.Tensor, Classes, str], torch.Tensor],
) -> tuple[dict[str, State], State]:
    """Copies of both in which what belongs to sharded parameters is changed, in the same order on all ranks.

    change: of a tensor, its classes, and what it is called.
    """
    sharded = objective.sharded()
    if not sharded:
        return weights, moments
    parts = objective.parts()
    changed = {name: dict(state) for name, state in weights.items()}
    for part, module in parts.items():
        state = changed.get(part, {})
        for key, parameter in module.named_parameters():
            if parameter in sharded and key in state and _has_rows(state[key]):
                state[key] = change(state[key], sharded[parameter], f"field {part}: {key}")
    states = dict(moments["state"])
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        if parameter in sharded and number in states:
            states[number] = {
                key: change(value, sharded[parameter], f"field optimizer: {key} of parameter {number}")
                if _has_rows(value)
                else value
                for key, value in states[number].items()
            }
    return changed, {**moments, "state": states}


def _has_rows(value: Any) -> bool:
    """Whether it is a tensor of the parameter's shape, and no count of steps."""
    return isinstance(value, torch.Tensor) and value.dim() > 0


def _gathered(tensor: torch.Tensor, classes: Classes) -> torch.Tensor:
    """This rank's rows → on rank 0 all ranks' on the CPU, in the order of the classes; else its own."""
    rows = tensor.detach()
    each = len(rows) // classes.count
    bounds = [tuple(each * bound for bound in classes.bounds(rank)) for rank in range(classes.world)]
    longest = max(last - first for first, last in bounds)
    row_bytes = max(rows[0].numel() * rows.element_size(), 1)
    step = min(longest, max(1, _GATHERED // (row_bytes * classes.world)))
    leads = classes.rank == 0
    whole = torch.empty(each * classes.total, *rows.shape[1:], dtype=rows.dtype) if leads else rows
    for begin in range(0, longest, step):
        sent = rows.new_zeros(step, *rows.shape[1:])  # gathering wants equally many of each
        mine = rows[begin : begin + step]
        sent[: len(mine)] = mine
        received = [torch.empty_like(sent) for _ in bounds] if leads else None
        dist.gather(sent, received)
        for (first, last), block in zip(bounds, received or [], strict=False):
            low, high = min(first + begin, last), min(first + begin + step, last)
            whole[low:high] = block[: high - low].cpu()
    return whole
