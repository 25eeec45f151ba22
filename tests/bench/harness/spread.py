"""Figures of repeated runs: median and range, ratios pair by pair."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median, lowest and highest, and the values themselves."""
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "values": list(values),
    }


@dataclass(frozen=True)
class Target:
    """What `of` does in a second ÷ what `to` does should be at least so much (None: no target)."""

    of: str
    to: str
    at_least: float | None = None


def ratios(
    results: Sequence[dict[str, Any]],
    targets: Sequence[Target],
    units: tuple[str, str] = ("crops_per_second", "crops_per_cpu_second"),
    *,
    by_cpu: bool = False,
) -> list[dict[str, Any]]:
    """Each target's ratio, computed within each round and then summarised; "cpu": the same per CPU second.

    by_cpu: whether targets are held against the latter.
    """
    done = {result["name"]: result for result in results if result["status"] == "ok"}
    found = []
    for target in targets:
        if target.of not in done or target.to not in done:
            continue
        wall, cpu = (
            summary([own / other for own, other in zip(*values, strict=True)])
            for values in ([done[name][unit]["values"] for name in (target.of, target.to)] for unit in units)
        )
        met = None if target.at_least is None else (cpu if by_cpu else wall)["median"] >= target.at_least
        row = {"of": target.of, "to": target.to, "at_least": target.at_least, "met": met}
        found.append({**row, **wall, "cpu": cpu})
    return found
