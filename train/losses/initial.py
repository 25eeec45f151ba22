"""The first values of a head: the same for each class, whichever classes a process has."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from train.losses.classes import Classes

_BLOCK = 4096
"""Rows drawn at a time. A multiple of 16, of which torch makes normal numbers at once: so blocks one after
another are, bit for bit, what one draw of the whole table would be."""

Fill = Callable[[torch.Tensor], object]
"""Fills a tensor in place, from torch's generator."""


def xavier_normal(classes: Classes, size: int) -> torch.Tensor:
    """(own classes, size) of what torch.nn.init.xavier_normal_ makes of all classes."""
    deviation = math.sqrt(2.0 / (classes.total + size))
    return _own_rows(classes, 1, size, lambda block: block.normal_(0.0, deviation))


def xavier_uniform(classes: Classes, each: int, size: int) -> torch.Tensor:
    """(own classes * each, size) of what torch.nn.init.xavier_uniform_ makes of all classes' rows."""
    bound = math.sqrt(3.0) * math.sqrt(2.0 / (classes.total * each + size))
    return _own_rows(classes, each, size, lambda block: block.uniform_(-bound, bound))


def linear(classes: Classes, size: int) -> nn.Linear:
    """The own classes' rows of what nn.Linear(size, all classes) begins as."""
    gain = nn.init.calculate_gain("leaky_relu", math.sqrt(5))
    bound = math.sqrt(3.0) * (gain / math.sqrt(size))
    edge = 1 / math.sqrt(size)
    weight = _own_rows(classes, 1, size, lambda block: block.uniform_(-bound, bound))
    bias = _own_rows(classes, 1, 1, lambda block: block.uniform_(-edge, edge))
    made = nn.Linear(size, classes.count, device="meta")
    made.weight, made.bias = nn.Parameter(weight), nn.Parameter(bias.squeeze(1))
    return made


def _own_rows(classes: Classes, each: int, size: int, fill: Fill) -> torch.Tensor:
    first, last = classes.bounds(classes.rank)
    return drawn(classes.total * each, size, first * each, last * each, fill)


def drawn(rows: int, size: int, first: int, last: int, fill: Fill) -> torch.Tensor:
    """Rows [first, last) of a table (rows, size) of the default type.

    The whole table is drawn, block after block, and only these rows are kept: the generator stands
    afterwards where it stands after all of it, and no process holds all of it.
    """
    kept = torch.empty(last - first, size)
    begins = [*range(0, max(rows - _BLOCK, 0) + 1, _BLOCK), rows]  # the last one has the rest
    for begin, end in pairwise(begins):
        block = torch.empty(end - begin, size)
        fill(block)
        low, high = max(begin, first), min(end, last)
        if low < high:
            kept[low - first : high - first] = block[low - begin : high - begin]
    return kept
