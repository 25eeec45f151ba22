"""Of tests over many alike, a few that run every time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(values: Iterable[str], *quick: str) -> list[Any]:
    """For parametrize: all of them, and those that are not `quick` marked slow."""
    return [pytest.param(value, marks=() if value in quick else pytest.mark.slow) for value in values]
