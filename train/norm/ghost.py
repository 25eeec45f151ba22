"""Batch normalisation over groups of rows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from train.norm.statistics import SummingBatchNorm


class GhostBatchNorm(SummingBatchNorm):
    """BatchNorm over each of `groups` equal parts of consecutive rows.

    Hoffer, Hubara and Soudry, "Train longer, generalize better", 2017 (ghost batch normalisation). With
    groups of the same rows of the global batch on any number of ranks, each row is normalised the same.
    """

    def __init__(self, like: _BatchNorm, groups: int) -> None:
        super().__init__(like)
        self.groups = groups

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """input (B, C, …); in training B must be a multiple of `groups`."""
        if not self.training:
            return super().forward(input)
        if input.shape[0] % self.groups:
            raise RuntimeError(f"{input.shape[0]} rows are not {self.groups} groups of equal size")
        normalised = [self._normalise(part) for part in input.chunk(self.groups)]
        return normalised[0] if self.groups == 1 else torch.cat(normalised)

    def _normalise(self, rows: torch.Tensor) -> torch.Tensor:
        """With a momentum of 1, what torch takes for running statistics are those of these rows."""
        mean, variance = torch.zeros_like(self.sum_mean), torch.zeros_like(self.sum_var)
        normalised = F.batch_norm(rows, mean, variance, self.weight, self.bias, True, 1.0, self.eps)
        self.add(mean, variance)
        return normalised
