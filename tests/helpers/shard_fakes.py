"""Shards that a plan by windows can look into."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shard_tools.dataset.layout import occurrence
from train.plan import WindowUtterances


@dataclass
class Shards:
    """Utterances in shards of given sizes; remembers which shards were asked for."""

    label: np.ndarray
    frames: np.ndarray
    sizes: np.ndarray

    def __post_init__(self):
        self.first = np.cumsum(self.sizes) - self.sizes
        self.shard = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.asked = set()

    def window(self, lanes):
        self.asked.update(np.concatenate(lanes).tolist())
        each = [
            np.concatenate([np.empty(0, np.int64), *(self.first[s] + np.arange(self.sizes[s]) for s in own)])
            for own in lanes
        ]
        number = np.concatenate(each)
        turn = occurrence(self.label, int(self.label.max()) + 1)
        lane = np.repeat(np.arange(len(lanes)), [len(rows) for rows in each])
        total = np.bincount(self.label)[self.label]
        return WindowUtterances(
            number, self.label[number], self.frames[number], lane, turn[number], total[number]
        )
