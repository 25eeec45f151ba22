"""Whether one system is better than another by more than chance, on one list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import eval.metrics
from eval.compare.systems import Comparison


def paired(comparison: Comparison, p_targets: Sequence[float]) -> list[dict[str, Any]]:
    """Of every system but the first, how its figures differ from the first's (eval.metrics.paired_test).

    {"differences": …, "bootstrap": …} each; differences are None where speakers are not known.
    """
    test: Callable[..., dict[str, Any]] | None = getattr(eval.metrics, "paired_test", None)
    sides: Callable[..., Any] | None = getattr(eval.metrics, "sides_of", None)
    if test is None or sides is None:
        absent = {"differences": None, "bootstrap": {"reason": "this release has no paired test"}}
        return [dict(absent) for _ in comparison.systems[1:]]
    trials, first = comparison.trials, comparison.systems[0]
    both = sides(trials.left, trials.right, comparison.speakers)
    return [
        test(first.scores, other.scores, trials.label, both, p_targets) for other in comparison.systems[1:]
    ]
