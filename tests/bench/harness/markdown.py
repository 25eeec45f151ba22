"""What every table is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def figure(values: dict[str, Any], unit: float = 1) -> str:
    """ "median [low – high]", in multiples of `unit`, with three digits or whole."""
    low, middle, high = (short(values[key] / unit) for key in ("low", "median", "high"))
    return middle if low == high else f"{middle} [{low} – {high}]"


def short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def target(ratio: dict[str, Any]) -> str:
    wanted = ratio["at_least"]
    return "" if wanted is None else f"≥ {short(wanted)} {'✓' if ratio['met'] else '✗'}"


def absent(result: dict[str, Any]) -> str:
    return result["reason"] if result["status"] == "not installed" else f"failed: {result['reason']}"
