"""What command-line options may hold, as argparse's `type`: bounds and places, in words of the user."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from shard_tools import storage
from shard_tools.dataset.keys import speaker_problem
from shard_tools.places import expand
from shard_tools.workers import processors

URL_IS = "a path, s3://bucket/prefix (endpoint and credentials from AWS's environment), or what fsspec opens"
MOST_WORKERS = 512  # processes of one command on one machine
_LONGEST_SHOWN = 40


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`."""

    def read(text: str) -> int:
        shown = _cut(text)
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{shown!r} is not a whole number from {low} to {high}"
            ) from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{shown} is not from {low} to {high}")
        return value

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """A number from `low` to `high`; NaN is none."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{_cut(text)!r} is not a number from {low:g} to {high:g}")
        return value

    return read


def add_workers(parser: argparse.ArgumentParser) -> None:
    """--workers, processes of a command."""
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, MOST_WORKERS),
        default=min(processors(), 16),
        help="processes (default: one a CPU, %(default)s here)",
    )


def place(text: str) -> str:
    """A path or URL; `~` and environment variables of a path are written out (`places.expand`)."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give a path or URL")
    return expand(text)


def local_path(text: str) -> str:
    """As `place`, of this machine's file system alone; file:// is taken off."""
    path = storage.local_path(place(text))
    if path is None:
        raise argparse.ArgumentTypeError(f"{text} is a URL; what is needed is a path on this machine")
    return path


def speaker_name(text: str) -> str:
    """A speaker of all files."""
    reason = speaker_problem(text)
    if reason is not None:
        raise argparse.ArgumentTypeError(f"{text!r} {reason}")
    return text


def local_folder(text: str) -> Path:
    """`local_path`, as a Path."""
    return Path(local_path(text))
