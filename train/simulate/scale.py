"""Planning by windows over a dataset of any size: what it takes, with utterances made up on demand."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shard_tools.arrays import Int64Array
from train.data.windowed import WindowedBatches
from train.plan import BatchSpec, Windows, WindowUtterances

_WINDOWS = 5  # planned to tell how long one takes


class OnDemand:
    """Utterances by formula, in shards of `per_shard` in groups of four of a speaker; nothing is stored.

    asked: how often each shard was asked for.
    """

    def __init__(self, shards: int, per_shard: int, speakers: int) -> None:
        self.shards = shards
        self.per_shard = per_shard
        self.speakers = speakers
        self.asked: dict[int, int] = {}
        # Group g is of speaker g * stride mod speakers: with no factor in common, all come equally often.
        self._stride = next(
            s for s in range(int(0.618 * speakers) + 1, 2 * speakers + 1) if math.gcd(s, speakers) == 1
        )

    def window(self, lanes: Sequence[Int64Array]) -> WindowUtterances:
        """As a WindowTable."""
        for shard in np.concatenate(lanes).tolist():
            self.asked[shard] = self.asked.get(shard, 0) + 1
        each = [
            (shards[:, None] * self.per_shard + np.arange(self.per_shard)).reshape(-1) for shards in lanes
        ]
        number = np.concatenate(each)
        group = number // 4
        groups = self.shards * self.per_shard // 4
        label = group * self._stride % self.speakers
        return WindowUtterances(
            number=number,
            label=label.astype(np.int32),
            length=64_000 + number * 7919 % 128_000,
            lane=np.repeat(np.arange(len(each)), [len(part) for part in each]),
            turn=group // self.speakers * 4 + number % 4,
            total=4 * ((groups - 1 - group % self.speakers) // self.speakers + 1),
        )


@dataclass(frozen=True)
class Scale:
    """What planning took. Seconds and MiB; shards_asked: of `shards`, all that were ever looked at."""

    utterances: int
    shards: int
    window_utterances: int
    start_s: float
    window_s: float
    batch_s: float
    grown_mib: float
    shards_asked: int
    steps: int


def planning(
    utterances: int, speakers: int, per_shard: int, lanes: int, width: int, spec: BatchSpec
) -> Scale:
    """Start a plan, and walk through some windows. per_shard: a multiple of 4. Raises PlanError."""
    shards = -(-utterances // per_shard)
    columns = OnDemand(shards, per_shard, speakers)
    before = _peak_mib()
    clock = time.perf_counter()
    plan = WindowedBatches(columns, speakers, spec, Windows(shards, lanes, width, spec.seed))
    started = time.perf_counter()

    at = plan.anchor(0)
    for _ in range(_WINDOWS):
        at = plan.following(at)
        plan.batch(at.step)
    planned = time.perf_counter()
    steps = plan.following(at).step - at.step
    since = time.perf_counter()
    for step in range(at.step, at.step + steps):
        plan.batch(step)
    done = time.perf_counter()
    return Scale(
        utterances=shards * per_shard,
        shards=shards,
        window_utterances=lanes * width * per_shard,
        start_s=started - clock,
        window_s=(planned - started) / _WINDOWS,
        batch_s=(done - since) / max(steps, 1),
        grown_mib=_peak_mib() - before,
        shards_asked=len(columns.asked),
        steps=at.step + steps,
    )


def _peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
