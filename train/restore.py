"""Putting a checkpoint's state back, where all of it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from eval.checkpoint.file import CheckpointError, check_fields, like, load_weights
from train.learner import Learner
from train.life.shards import own_state


@dataclass(frozen=True)
class _Scaler:
    """As torch.amp.GradScaler has it."""

    scale: float
    growth_factor: float
    backoff_factor: float
    growth_interval: int
    _growth_tracker: int


def restore(
    checkpoint: dict[str, Any],
    url: str,
    learner: Learner,
) -> None:
    """Put the checkpoint's weights and moments where they belong. Raises CheckpointError unless all fit."""
    checkpoint = own_state(checkpoint, url, learner.objective, learner.optimizer)
    for name, part in learner.objective.parts().items():
        # Where "network" is an average, what it is the average of stands beside it.
        field = "trained" if name == "network" and "trained" in checkpoint else name
        if not isinstance(checkpoint.get(field), dict):
            raise CheckpointError(f"{url}: field {field} is missing; use another checkpoint")
        load_weights(part, checkpoint[field], f"{url}: field {field}")
    if learner.averaged is not None:  # begins with the weights where there was none
        load_weights(learner.averaged.network, checkpoint["network"], f"{url}: field network")
    state, name = checkpoint["optimizer"]["state"], f"{url}: field optimizer"
    _load_moments(learner, state, checkpoint["step"], name)
    if learner.scaler.is_enabled() and checkpoint.get("scaler"):
        check_fields(checkpoint["scaler"], _Scaler, f"{url}: field scaler")
        learner.scaler.load_state_dict(checkpoint["scaler"])


def _load_moments(
    learner: Learner,
    state: dict[int, dict[str, torch.Tensor]],
    step: int,
    name: str,
) -> None:
    """What the optimiser keeps of each parameter; its options stay those of the run's configuration."""
    optimizer, made_by = learner.optimizer, learner.made_by
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    keeps = step > 0 and (made_by.kept or made_by.counts)  # before the first step there is nothing
    numbers = set(range(len(parameters))) if keeps else set()
    skips = learner.scaler.is_enabled()  # steps whose gradients overflowed, the first ones among them
    if set(state) != numbers and not (skips and not state):
        raise CheckpointError(f"{name}: it has moments of {len(state)} parameters, not of {len(numbers)}")
    for number, moments in state.items():
        expected = dict.fromkeys(made_by.kept, parameters[number])
        if made_by.counts:
            expected = {"step": torch.tensor(float(step)), **expected}
        if moments.keys() != expected.keys():
            raise CheckpointError(f"{name}: parameter {number} has {sorted(moments)}, not {sorted(expected)}")
        for key, tensor in moments.items():
            if not like(tensor, expected[key]):
                raise CheckpointError(f"{name}: {key} of parameter {number} does not fit the parameter")
            if bool(tensor.isnan().any()):
                raise CheckpointError(f"{name}: {key} of parameter {number} holds NaN")
        moved = float(moments["step"]) if made_by.counts else step
        if moved > step or (moved < step and not skips):
            raise CheckpointError(f"{name}: parameter {number} was moved {moved:g} times, not {step} times")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
