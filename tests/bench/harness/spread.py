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
    """crops per second of `of` ÷ those of `to` should be at least so much (None: no target)."""

    of: str
    to: str
    at_least: float | None = None


def ratios(results: Sequence[dict[str, Any]], targets: Sequence[Target]) -> list[dict[str, Any]]:
    """Each target's ratio, computed within each round and then summarised."""
    figures = {
        result["name"]: result["crops_per_second"]["values"] for result in results if result["status"] == "ok"
    }
    found = []
    for target in targets:
        if target.of not in figures or target.to not in figures:
            continue
        pairs = zip(figures[target.of], figures[target.to], strict=True)
        ratio = summary([own / other for own, other in pairs])
        met = None if target.at_least is None else ratio["median"] >= target.at_least
        found.append({"of": target.of, "to": target.to, "at_least": target.at_least, "met": met, **ratio})
    return found
