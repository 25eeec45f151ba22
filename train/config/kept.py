"""The configuration as a run's config.yaml and its checkpoints keep it, the same in both."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import yaml

from shard_tools.text import redacted
from train.config.sections import Config


def kept_config(config: Config) -> dict[str, Any]:
    """Every option with its value, in plain lists and dicts, without the credentials in URLs."""
    values: dict[str, Any] = plain(asdict(config, dict_factory=_by_key))
    return values


def _by_key(fields: list[tuple[str, Any]]) -> dict[str, Any]:
    """A section's fields by their keys, which lack the underscore that keeps a name from being Python's."""
    return {name.removesuffix("_"): value for name, value in fields}


def as_yaml(config: Config) -> str:
    """`kept_config` as YAML text that --config takes."""
    text: str = yaml.safe_dump(kept_config(config), sort_keys=False, allow_unicode=True, width=1000)
    return text


def plain(value: Any) -> Any:
    """`value` with lists for tuples, and without the credentials in its URLs."""
    if isinstance(value, dict):
        return {key: plain(below) for key, below in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return redacted(value) if isinstance(value, str) else value
