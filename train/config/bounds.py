"""Whether every value of a configuration is there, and every number within the bounds beside it."""

from __future__ import annotations

from dataclasses import is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from models.options import Within
from shard_tools.errors import UserError
from shard_tools.text import has_control


def check_values(section: Any, prefix: str = "") -> None:
    """Raise UserError naming the first value that is missing or out of its bounds, which NaN always is.

    section: a dataclass of train/config/sections.py; prefix: what stands before its fields' names ("data.").
    """
    for name, hint in get_type_hints(type(section), include_extras=True).items():
        value, key = getattr(section, name), prefix + name.removesuffix("_")
        if is_dataclass(value):
            check_values(value, f"{key}.")
            continue
        bounds = None
        if get_origin(hint) is Annotated:
            hint, bounds = get_args(hint)
        if value is None:
            if type(None) not in get_args(hint):
                raise UserError(f"{key} is null; give it a value, or leave the line out for its default")
        elif bounds is not None:
            _check_within(key, value, bounds)
        elif isinstance(value, str) and not is_text(value):
            raise UserError(f"{key} is {cut(ascii(value))}; it must be UTF-8 text without control characters")


def is_text(value: str) -> bool:
    """Whether `value` can be written as UTF-8 and shown: no control characters, no halves of a pair."""
    return not has_control(value) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _check_within(key: str, value: Any, bounds: Within) -> None:
    several = isinstance(value, (list, tuple, dict))
    numbers = (value.values() if isinstance(value, dict) else value) if several else [value]
    if not all(bounds.low <= number <= bounds.high for number in numbers):
        subject = "each number in it" if several else "it"
        found = list(value) if isinstance(value, tuple) else value
        raise UserError(f"{key} is {cut(str(found))}; {subject} must be {bounds}")


def cut(text: str, longest: int = 60) -> str:
    """`text`, or its beginning where it is longer."""
    return text if len(text) <= longest else f"{text[:longest]}…"
