"""Parts that are exported in another way than they run, so that any length is taken: the same values."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.export import Dim

from models.networks.campplus import _segment_means
from models.networks.rawnet3 import FramePool
from models.parts.maxpool import MaxPool

pytestmark = pytest.mark.slow


class Segments(nn.Module):
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return _segment_means(frames)


@pytest.mark.parametrize(
    ("part", "shape", "lengths"),
    [
        (Segments(), (2, 3), (2, 99, 100, 101, 250, 300)),
        (FramePool(5), (2, 3), (10, 11, 14, 55)),
        (MaxPool((3, 3), (2, 2)), (2, 3, 9), (7, 8, 20, 21)),
        (MaxPool((1, 3), (1, 2)), (2, 3, 4), (7, 8, 20, 21)),
    ],
)
def test_any_length(part: nn.Module, shape: tuple[int, ...], lengths: tuple[int, ...]) -> None:
    axes = {0: Dim.AUTO, len(shape): Dim.AUTO}
    program = torch.export.export(part, (torch.randn(*shape, 120),), dynamic_shapes=(axes,)).module()
    for length in lengths:
        values = torch.randn(*shape, length)
        torch.testing.assert_close(program(values), part(values), rtol=1e-5, atol=1e-6)
