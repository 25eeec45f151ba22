"""Whether one system is better than another by more than chance, on one list."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from eval.compare.systems import Comparison


def paired(comparison: Comparison, p_targets: Sequence[float]) -> list[dict[str, Any]]:
    """Of every system but the first, how its figures differ from the first's (paired_test of eval.metrics).

    {"differences": …, "bootstrap": …} each; differences are None where speakers are not known.
    """
    try:
        room = importlib.import_module("eval.metrics.bootstrap")
    except ImportError:
        absent = {"differences": None, "bootstrap": {"reason": "this release has no paired test"}}
        return [dict(absent) for _ in comparison.systems[1:]]
    trials, first = comparison.trials, comparison.systems[0]
    sides = room.sides_of(trials.left, trials.right, comparison.speakers)
    return [
        room.paired_test(first.scores, other.scores, trials.label, sides, p_targets)
        for other in comparison.systems[1:]
    ]
