"""Pages from the templates in eval/report/templates: what is put into them is text, never HTML."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from shard_tools.figures import GRID, INK

# Of the figures, drawn on white: what each colour is on dark ground.
_DARK = {
    "#ffffff": "#161c26",
    "#000000": "#e5e7eb",
    INK: "#e5e7eb",
    GRID: "#2f3947",
    "#9ca3af": "#6b7280",
    "#0f766e": "#2dd4bf",
    "#c2410c": "#fb923c",
    "#1d4ed8": "#7aa2f7",
    "#7e22ce": "#c084fc",
    "#a16207": "#facc15",
    "#be123c": "#fb7185",
    "#6b7280": "#9ca3af",
}
_COLOUR = re.compile("|".join(_DARK))


@dataclass(frozen=True)
class Picture:
    """A figure as data URIs, for light and for dark pages."""

    light: str
    dark: str


@dataclass(frozen=True)
class Column:
    """number: whether what stands in it is set as numbers."""

    name: str
    number: bool = False


@dataclass(frozen=True)
class Name:
    """A long name in a table, which may be cut; audio: a link to what it names."""

    text: str
    audio: str | None = None


@dataclass(frozen=True)
class Table:
    """rows: a cell for each column; none: what stands there when there are no rows."""

    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Name]]
    none: str = "none"


def picture(svg: bytes) -> Picture:
    """A figure of matplotlib's, in which ids would clash with another's were it not a file of its own."""
    dark = _COLOUR.sub(lambda found: _DARK[found[0]], svg.decode())
    return Picture(_uri(svg), _uri(dark.encode()))


def _uri(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"


def render(template: str, **values: Any) -> str:
    """The page that a template makes of `values`, each of which it escapes. Raises for a value that lacks."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("eval.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
