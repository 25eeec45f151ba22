"""Whether one system is better than another by more than chance, on one list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.compare.systems import Comparison
from eval.metrics import OperatingPoint
from eval.metrics.bootstrap import paired_test, sides_of


def paired(comparison: Comparison, points: Sequence[OperatingPoint]) -> list[dict[str, Any]]:
    """Of every system but the first, how its figures differ from the first's, as paired_test says.

    {"differences": …, "bootstrap": …} each; differences are None where speakers are not known.
    """
    trials, first = comparison.trials, comparison.systems[0]
    sides = sides_of(trials.left, trials.right, comparison.speakers)
    return [
        paired_test(first.scores, other.scores, trials.label, sides, points)
        for other in comparison.systems[1:]
    ]
