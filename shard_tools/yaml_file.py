"""Checking a YAML file of a person before anything is built from it: one line names file and line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from shard_tools.errors import UserError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_ALIASES = 100
MAX_DIGITS = 100


@dataclass
class _Mapping:
    keys: dict[str, int] = field(default_factory=dict)  # name → line
    at_key: bool = True


def check_yaml_file(path: str | Path) -> str:
    """The text of a YAML file of one mapping.

    Raises UserError, naming file and line, for a file that cannot be read, is not UTF-8 or not YAML, has
    two equal keys in one mapping, or is larger, deeper or has more aliases or digits than any configuration.
    """
    text = _text(path)
    open_nodes: list[_Mapping | None] = []  # None: a list
    aliases = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            where = f"{path}, line {event.start_mark.line + 1}" if event.start_mark else str(path)
            if isinstance(event, yaml.CollectionEndEvent):
                open_nodes.pop()
                continue
            if not isinstance(event, yaml.NodeEvent):
                continue
            if not open_nodes and not isinstance(event, yaml.MappingStartEvent):
                raise UserError(f"{where}: the file must be a mapping (key: value), and has something else")
            aliases += isinstance(event, yaml.AliasEvent)
            if aliases > MAX_ALIASES:
                raise UserError(f"{where}: more than {MAX_ALIASES} aliases; write the values out")
            _note(open_nodes[-1] if open_nodes else None, event, where)
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append(_Mapping() if isinstance(event, yaml.MappingStartEvent) else None)
                if len(open_nodes) > MAX_DEPTH:
                    raise UserError(f"{where}: nested more than {MAX_DEPTH} deep")
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    return text


def _note(holder: _Mapping | None, event: yaml.NodeEvent, where: str) -> None:
    """Count `event` as the next key or value of what holds it."""
    scalar = event.value if isinstance(event, yaml.ScalarEvent) else None
    if scalar is not None and len(scalar) > MAX_DIGITS and scalar.strip("+-").replace("_", "").isdigit():
        raise UserError(f"{where}: a number of {len(scalar)} digits; the most are {MAX_DIGITS}")
    if holder is None:
        return
    if holder.at_key and scalar is not None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        if scalar in holder.keys:
            raise UserError(
                f"{where}: the key {scalar!r} stands in line {holder.keys[scalar]} already; keep one of them"
            )
        holder.keys[scalar] = line
    holder.at_key = not holder.at_key


def _text(path: str | Path) -> str:
    try:
        if not Path(path).is_file():
            raise UserError(
                f"{path}: there is no such file" + (", but a folder" if Path(path).is_dir() else "")
            )
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES} bytes, which no configuration is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}); save it so"
        ) from error
