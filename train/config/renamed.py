"""Keys of 0.1.0 that have another name now: taken for a release in files, command lines and checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Section → the name that its component had then, without being written, and that component's own options.
_INTO_OPTIONS = {"schedule": ("step", ("gamma", "every", "unit"))}


def modern(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with today's keys; one that has them comes back as it is."""
    renamed = dict(values)
    for section, (name, keys) in _INTO_OPTIONS.items():
        found = renamed.get(section)
        if not isinstance(found, Mapping) or not any(key in found for key in keys):
            continue
        own = {key: value for key, value in found.items() if key in keys}
        others = {key: value for key, value in found.items() if key not in keys}
        given = others.get("options")
        renamed[section] = {
            "name": name,
            **others,
            "options": {**own, **(given if isinstance(given, Mapping) else {})},
        }
    return renamed


def modern_word(word: str) -> str:
    """A word of a command line: "--schedule.gamma=1" → "--schedule.options.gamma=1"."""
    name, equals, value = word.partition("=")
    for section, (_, keys) in _INTO_OPTIONS.items():
        for key in keys:
            if name == f"--{section}.{key}":
                return f"--{section}.options.{key}{equals}{value}"
    return word
