"""The one way to read a record that a program wrote: JSON into a dataclass, every field of its declared type.

Types are annotations; bounds stand beside them, as in `Annotated[int, at_least(0)]`.
What does not fit is one line that names the file and the field.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from shard_tools.errors import UserError

T = TypeVar("T")

LONGEST = 120  # characters of a value or a cause that a message shows


class RecordError(UserError):
    """A record that cannot be what the program wrote: the text names the file, the field and the remedy."""


def at_least(low: float) -> Any:
    """A bound for an annotation: `Annotated[int, at_least(0)]`."""
    return msgspec.Meta(ge=low)


def within(low: float, high: float) -> Any:
    """Inclusive bounds for an annotation: `Annotated[int, within(0, 1)]`."""
    return msgspec.Meta(ge=low, le=high)


def matching(pattern: str) -> Any:
    """A regular expression that a text holds: `Annotated[str, matching("^[0-9a-f]+$")]`."""
    return msgspec.Meta(pattern=pattern)


def decode(data: bytes | str, kind: type[T], name: str, remedy: str) -> T:
    """The record in `data`, UTF-8 JSON, as `kind` (a dataclass, or any type msgspec knows).

    Nothing is converted: a number is no text, a bool no number, NaN and Infinity are no JSON. Fields
    that `kind` does not have are ignored, as a later version may write them.
    name: of the file, for messages; remedy: what its reader can do, as an imperative.
    Raises RecordError.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise RecordError(f"{name}: {_field(str(error))}; {remedy}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordError(f"{name}: not JSON, or cut short ({_short(str(error))}); {remedy}") from None
    except RecursionError:
        raise RecordError(f"{name}: nested too deeply to be a record; {remedy}") from None


def convert(value: Any, kind: type[T], name: str, remedy: str) -> T:
    """As `decode`, of what has been parsed already, such as YAML or one object of a larger document."""
    try:
        return msgspec.convert(value, type=kind)
    except msgspec.ValidationError as error:
        raise RecordError(f"{name}: {_field(str(error))}; {remedy}") from None
    except RecursionError:
        raise RecordError(f"{name}: nested too deeply to be a record; {remedy}") from None


def decode_lines(data: bytes, kind: type[T]) -> Iterator[T | None]:
    """The records of a file of lines, None for each line that is none; a kill may have cut the last one."""
    decoder = msgspec.json.Decoder(kind)
    for line in data.split(b"\n"):
        if not line.strip():
            continue
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            yield None


def plain_mapping(data: bytes, name: str, remedy: str) -> Mapping[str, Any]:
    """A JSON object whose fields are anybody's."""
    return decode(data, dict[str, Any], name, remedy)


def _field(problem: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$.shards[0].frames`" with the field first."""
    found = re.fullmatch(r"(?P<what>.*?) - at `(?:key in )?\$(?P<where>.*)`", problem, re.DOTALL)
    if found is None:
        return _short(problem[:1].lower() + problem[1:])
    what = found["what"]
    return f"field {found['where'].lstrip('.') or '(the whole)'}: {_short(what[:1].lower() + what[1:])}"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
