"""Of tests over many alike, those that run every time, and those that stand for others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def exhaustive_but(values: Iterable[str], those: Iterable[str], *quick: str) -> list[Any]:
    """For parametrize: all of them, slow but for the `quick` ones; `those` stand for the rest, exhaustive."""
    chosen = {*those, *quick}
    rest = (pytest.mark.slow, pytest.mark.exhaustive)
    return [
        pytest.param(value.values[0], marks=value.marks if value.values[0] in chosen else rest)
        for value in slow_but(values, *quick)
    ]


def slow_but(values: Iterable[str], *quick: str) -> list[Any]:
    """For parametrize: all of them, and those that are not `quick` marked slow."""
    return [pytest.param(value, marks=() if value in quick else pytest.mark.slow) for value in values]
