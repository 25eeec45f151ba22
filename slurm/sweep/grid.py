"""The grid of a sweep: every combination of the values that options are to take, and a name for each."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from slurm.errors import SlurmError

_NAME_LENGTH = 60  # characters; TensorBoard's list of runs, and people, read them


def parse_vary(texts: Sequence[str]) -> dict[str, list[str]]:
    """{"optim.lr": ["0.1", "0.2"]} of ["optim.lr=0.1,0.2"]; commas within brackets do not part values.

    Raises SlurmError for what is not of this form, a key or value that comes twice, and run.folder.
    """
    grid: dict[str, list[str]] = {}
    for text in texts:
        key, equals, rest = text.partition("=")
        values = _split(rest)
        if not equals or not re.fullmatch(r"[A-Za-z_][\w.]*", key) or "" in values:
            raise SlurmError(f"--vary {text!r}: give KEY=V1,V2,…, such as optim.lr=0.001,0.0003")
        if key in grid:
            raise SlurmError(f"--vary {key} is given twice: give all its values at once, with commas between")
        if key == "run.folder":
            raise SlurmError("--vary run.folder: each run has a folder of its own already, below --folder")
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise SlurmError(f"--vary {text!r}: {twice[0]} is there twice")
        grid[key] = values
    return grid


def combinations(grid: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Each key with one of its values; the last key's change first."""
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def run_name(number: int, values: Mapping[str, str]) -> str:
    """A short file name, as 003-lr=0.1_margin=0.2: of keys the last part, or all where that is not unique."""
    last = [key.rpartition(".")[2] for key in values]
    words = [
        f"{short if last.count(short) == 1 else key}={value}"
        for short, (key, value) in zip(last, values.items(), strict=True)
    ]
    safe = re.sub(r"[^\w.=+-]+", "-", "_".join(words), flags=re.ASCII)
    return f"{number:03d}-{safe[:_NAME_LENGTH].rstrip('-._=')}"


def _split(text: str) -> list[str]:
    """At the commas outside of brackets and braces."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{(") - (character in ")}]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
