"""Draws speakers anew in a process of its own: python bootstrap_once.py WHAT TRIALS DRAWS CPU → JSON.

WHAT is one (the intervals of a system) or pair (a paired test of two).
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from memory import memory_mib

from eval.metrics.bootstrap import bootstrap, paired_test

SPEAKERS = 1251
POINTS = (0.05, 0.01)


def made_up(trials: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores float64 (T,), labels int8 (T,) and sides int64 (T, 2): half of the trials are target trials."""
    random = np.random.default_rng(0)
    labels = (np.arange(trials) % 2).astype(np.int8)
    left = random.integers(0, SPEAKERS, trials)
    right = np.where(labels == 1, left, (left + random.integers(1, SPEAKERS, trials)) % SPEAKERS)
    ease = 0.3 * random.standard_normal(SPEAKERS)
    scores = random.standard_normal(trials) + 3.5 * labels + ease[left] + ease[right]
    return scores, labels, np.stack((left, right), axis=1)


def main() -> None:
    what, trials, draws = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[4] != "all":
        os.sched_setaffinity(0, {int(sys.argv[4])})
    scores, labels, sides = made_up(trials)
    other = scores + 0.3 * np.random.default_rng(1).standard_normal(trials)
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far becomes what it is now
    before, began, busy = memory_mib("VmRSS"), time.perf_counter(), time.process_time()
    if what == "one":
        bootstrap(scores, labels, sides, POINTS, draws=draws)
    else:
        paired_test(scores, other, labels, sides, POINTS, draws=draws)
    figures = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - busy,
        "peak_mib": memory_mib("VmHWM") - before,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
