"""Checking the YAML of a person before anything is built from it: one line names file and line."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from shard_tools.errors import UserError
from shard_tools.text import shown

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_ALIASES = 100
MAX_NODES = 100_000  # with every alias written out
MAX_DIGITS = 100

# What YAML 1.1 takes for a number: decimal, hexadecimal, binary, in sixties, with a point.
_NUMBER = re.compile(r"[-+]?(0x[0-9a-fA-F_]+|[0-9_:.]+(e[-+]?[0-9]+)?)", re.IGNORECASE)


@dataclass
class _Node:
    """A mapping or list that is being read. nodes: what it holds so far, aliases written out."""

    mapping: bool
    anchor: str | None
    nodes: int = 1
    keys: dict[str, int] = field(default_factory=dict)  # name → line
    at_key: bool = True


def check_yaml_file(path: str | Path) -> str:
    """The text of a YAML file of one mapping.

    Raises UserError, naming file and line, for a file that cannot be read, is not UTF-8 or not YAML, has
    two equal keys in one mapping, a key that is not text, a tag, a second document, or is larger, deeper,
    or has more aliases, values or digits than any configuration.
    """
    text = _text(path)
    try:
        _check(text, str(path), mapping=True)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not YAML: {shown(str(error.problem))}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {shown(' '.join(str(error).split()))}") from error
    return text


def check_yaml_value(text: str, name: str) -> None:
    """Check a typed value, which may be YAML, as a file is checked; `name` is the option's, for messages.

    Text that is not YAML is left to whoever wants a number or a list there. Raises UserError.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{name}: longer than {MAX_BYTES} characters, which no value is")
    with contextlib.suppress(yaml.YAMLError):
        _check(text, name, mapping=False)


def _check(text: str, name: str, *, mapping: bool) -> None:
    """mapping: `text` is a file, which must be a mapping, and whose lines are named."""
    reading = _Reading(name, lines=mapping)
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        reading.take(event, mapping=mapping)
    if mapping and not reading.documents:
        raise UserError(f"{name}: the file is empty; a configuration is a mapping (key: value)")


class _Reading:
    def __init__(self, name: str, *, lines: bool) -> None:
        self._name = name
        self._lines = lines
        self.documents = 0
        self._aliases = 0
        self._open: list[_Node] = []
        self._sizes: dict[str, int] = {}  # of what an anchor names, aliases written out

    def take(self, event: yaml.Event, *, mapping: bool) -> None:
        line = event.start_mark.line + 1 if event.start_mark else 0
        where = f"{self._name}, line {line}" if line and self._lines else self._name
        if isinstance(event, yaml.CollectionEndEvent):
            closed = self._open.pop()
            if closed.anchor:
                self._sizes[closed.anchor] = closed.nodes
            self._add(closed.nodes, where)
            return
        if isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1 and self._lines:
                raise UserError(f"{where}: a second document begins; keep one")
        if not isinstance(event, yaml.NodeEvent):
            return
        if mapping and not self._open and not isinstance(event, yaml.MappingStartEvent):
            raise UserError(f"{where}: the file must be a mapping (key: value), and has something else")
        self._check_node(event, where)
        if self._open and self._open[-1].mapping:
            _note(self._open[-1], event, line, where)
        if isinstance(event, yaml.CollectionStartEvent):
            self._open.append(_Node(isinstance(event, yaml.MappingStartEvent), event.anchor))
            if len(self._open) > MAX_DEPTH:
                raise UserError(f"{where}: nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.AliasEvent):
            self._add(self._sizes[str(event.anchor)], where)
        else:
            if event.anchor:
                self._sizes[event.anchor] = 1
            self._add(1, where)

    def _check_node(self, event: yaml.NodeEvent, where: str) -> None:
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise UserError(f"{where}: more than {MAX_ALIASES} aliases; write the values out")
            if str(event.anchor) not in self._sizes:
                raise UserError(
                    f"{where}: the alias *{str(event.anchor)[:80]} stands before the end of what it names"
                )
            return
        tag = getattr(event, "tag", None)
        if tag is not None and self._lines:
            raise UserError(f"{where}: the tag {shown(tag[:80])}; tags are not understood here, leave it out")
        value = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if len(value) > MAX_DIGITS and _NUMBER.fullmatch(value):
            raise UserError(f"{where}: a number of {len(value)} digits; the most are {MAX_DIGITS}")

    def _add(self, nodes: int, where: str) -> None:
        """Count `nodes` to what holds them."""
        if self._open:
            self._open[-1].nodes += nodes
            if self._open[-1].nodes > MAX_NODES:
                raise UserError(
                    f"{where}: more than {MAX_NODES} values, aliases written out; write a shorter one"
                )


def _note(holder: _Node, event: yaml.NodeEvent, line: int, where: str) -> None:
    """Take `event` for the next key or value of a mapping."""
    if holder.at_key:
        if not isinstance(event, yaml.ScalarEvent):
            what = "an alias" if isinstance(event, yaml.AliasEvent) else "a list or mapping"
            raise UserError(f"{where}: {what} stands for a key; write the key itself")
        if event.value in holder.keys:
            key, first = shown(repr(event.value[:80])), holder.keys[event.value]
            raise UserError(f"{where}: the key {key} stands in line {first} already; keep one of them")
        holder.keys[event.value] = line
    holder.at_key = not holder.at_key


def _text(path: str | Path) -> str:
    try:
        if not Path(path).is_file():
            raise UserError(
                f"{path}: there is no such file" + (", but a folder" if Path(path).is_dir() else "")
            )
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise UserError(f"{str(path)[:300]}: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES} bytes, which no configuration is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}: not UTF-8 (byte 0x{data[error.start]:02x}); save it so"
        ) from error
