"""Parameter groups by name, with learning rates of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import nn

from shard_tools.errors import UserError


def freeze(module: nn.Module, beginnings: Sequence[str]) -> None:
    """Let the parameters whose names begin so stay as they are.

    Raises UserError for one that no parameter's name begins with, and when nothing is left to train.
    """
    named = list(module.named_parameters())
    for beginning in beginnings:
        found = [parameter for name, parameter in named if name.startswith(beginning)]
        if not found or not beginning:
            raise UserError(
                f"optim.freeze has {beginning!r}, which no parameter's name begins with; parameters begin "
                f"with {_beginnings(name for name, _ in named)}"
            )
        for parameter in found:
            parameter.requires_grad_(False)
    if named and not any(parameter.requires_grad for _, parameter in named):
        raise UserError(f"optim.freeze {list(beginnings)} leaves nothing to train: take out one of them")


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], rates: Mapping[str, float], *, no_decay: bool = False
) -> list[dict[str, Any]]:
    """Groups as torch's optimisers take them, with "name" and "rate" in each.

    named: the parameters, by their full names ("network.fc.weight"); frozen ones are left out. rates:
    beginnings of names → what the learning rate is multiplied by there, the longest that fits counts.
    What none fits comes first, at a rate of 1. no_decay: norms, biases and other parameters of one
    dimension at most are groups of their own, without weight decay. Raises UserError for one of `rates` that
    no trained parameter's name begins with.
    """
    groups: dict[str, dict[str, Any]] = {"": {"name": "", "rate": 1.0, "params": []}}
    for prefix, rate in rates.items():
        groups[prefix] = {"name": prefix, "rate": float(rate), "params": []}
    longest_first = sorted(groups, key=len, reverse=True)
    names = []
    for name, parameter in named:
        if not parameter.requires_grad:  # frozen: an optimiser would keep moments that never come
            continue
        names.append(name)
        fitting = next(prefix for prefix in longest_first if name.startswith(prefix))
        groups[fitting]["params"].append(parameter)
    for prefix, group in groups.items():
        if prefix and not group["params"]:
            raise UserError(
                f"optim.rates has {prefix!r}, which no parameter's name begins with that no longer one "
                f"fits; parameters begin with {_beginnings(names)}"
            )
    full = [group for group in groups.values() if group["params"]]
    return [part for group in full for part in _without_decay(group)] if no_decay else full


def _beginnings(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))


def _without_decay(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The group's tables, then what is of one dimension or none, on which weight decay does not act."""
    tables = [parameter for parameter in group["params"] if parameter.dim() > 1]
    others = [parameter for parameter in group["params"] if parameter.dim() <= 1]
    parts = [{**group, "params": tables}, {**group, "params": others, "weight_decay": 0.0}]
    return [part for part in parts if part["params"]]


def set_rates(groups: Iterable[dict[str, Any]], rate: float) -> None:
    """Give each group its own share of the learning rate `rate`."""
    for group in groups:
        group["lr"] = rate * group["rate"]
