"""The components that a configuration names: their options filled in, and described for --help."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models.options import ModelError
from models.registry import describe_networks, network_options
from shard_tools.errors import UserError
from train.config.sections import Config
from train.losses import check_shardable, describe_losses, loss_options
from train.optim import (
    build_optimizer,
    describe_optimizers,
    describe_schedules,
    optimizer_options,
    schedule_options,
)

_OPTIONS: dict[str, Callable[[str, Mapping[str, Any]], dict[str, Any]]] = {
    "model": network_options,
    "loss": loss_options,
    "optim": optimizer_options,
    "schedule": schedule_options,
}
_DESCRIBED = {
    "model": describe_networks,
    "loss": describe_losses,
    "optim": describe_optimizers,
    "schedule": describe_schedules,
}


def complete(config: Config) -> None:
    """Put all options of the components named into the configuration. Raises UserError for a wrong one."""
    for key, options_of in _OPTIONS.items():
        section = getattr(config, key)
        try:
            section.options = options_of(section.name, section.options)
        except ModelError as error:
            raise UserError(f"{key}: {error}") from None
    try:
        if config.loss.sharded:
            check_shardable(config.loss.name)
    except ModelError as error:
        raise UserError(str(error)) from None
    try:
        build_optimizer(config.optim.name, config.optim.options)
    except ModelError as error:
        raise UserError(f"optim: {error}") from None


def completed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as a checkpoint keeps it, with the options that were left out then.

    What no component of today takes stays as it is: comparing will tell.
    """
    full = dict(values)
    for key, options_of in _OPTIONS.items():
        section = full.get(key)
        if not isinstance(section, Mapping):
            continue
        try:
            options = options_of(section["name"], section.get("options") or {})
        except (ModelError, KeyError, TypeError):
            continue
        full[key] = {**section, "options": options}
    return full


def described() -> str:
    """What there is to choose from, and each one's options; for --help."""
    lines = []
    for key, describe in _DESCRIBED.items():
        lines.append(f"{key}.name, and what --{key}.options takes for it:")
        for name, options in describe().items():
            lines.append(f"  {name}")
            lines += [f"      {option}" for option in options]
    return "\n".join(lines)
