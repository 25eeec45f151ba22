"""Plans one epoch in a process of its own: python plan_once.py UTTERANCES SPEAKERS P K CPU → JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from memory import memory_mib

from train.plan import BatchSpec, EpochPlan


def corpus(utterances: int, speakers: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels int32 and frames int64 (utterances,): log-normal counts a speaker, 4 to 20 s each."""
    rng = np.random.default_rng(0)
    share = rng.lognormal(0.0, 0.6, speakers)
    counts = np.maximum((share / share.sum() * utterances).astype(np.int64), 1)
    counts[: utterances - counts.sum()] += 1
    labels = np.repeat(np.arange(speakers, dtype=np.int32), counts)
    frames = (16000 * (4 + rng.gamma(1.5, 2.8, len(labels)).clip(0, 16))).astype(np.int64)
    order = rng.permutation(len(labels))
    return labels[order], frames[order]


def main() -> None:
    utterances, speakers, per_batch, each = map(int, sys.argv[1:5])
    if sys.argv[5] != "all":
        os.sched_setaffinity(0, {int(sys.argv[5])})
    labels, frames = corpus(utterances, speakers)
    spec = BatchSpec(per_batch, each, crop=32240)
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far becomes what it is now
    before = memory_mib("VmRSS")
    began = time.perf_counter()
    plan = EpochPlan(labels, frames, speakers, spec)
    plan.batch(0)
    epoch = time.perf_counter() - began
    peak = memory_mib("VmHWM") - before

    began = time.perf_counter()
    for step in range(1, 101):
        plan.batch(min(step, plan.steps_per_epoch - 1))
    following = (time.perf_counter() - began) / 100

    del plan
    step = int(np.random.default_rng(1).integers(10**9))
    began = time.perf_counter()
    plan = EpochPlan(labels, frames, speakers, spec)
    plan.batch(step % (20 * plan.steps_per_epoch))
    seek = time.perf_counter() - began
    figures = {"epoch_seconds": epoch, "seek_seconds": seek, "next_ms": 1000 * following, "peak_mib": peak}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
