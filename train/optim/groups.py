"""Parameter groups by name, with learning rates of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from shard_tools.errors import UserError


def parameter_groups(
    named: Iterable[tuple[str, nn.Parameter]], rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Groups as torch's optimisers take them, with "name" and "rate" in each.

    named: the parameters, by their full names ("network.fc.weight"); frozen ones are left out. rates:
    beginnings of names → what the learning rate is multiplied by there, the longest that fits counts.
    What none fits comes first, at a rate of 1. Raises UserError for one that no trained parameter's
    name begins with.
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
            known = ", ".join(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
            raise UserError(
                f"optim.rates has {prefix!r}, which no parameter's name begins with that no longer one "
                f"fits; parameters begin with {known}"
            )
    return [group for group in groups.values() if group["params"]]


def set_rates(groups: Iterable[dict[str, Any]], rate: float) -> None:
    """Give each group its own share of the learning rate `rate`."""
    for group in groups:
        group["lr"] = rate * group["rate"]
