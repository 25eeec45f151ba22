"""Poolings against their definitions."""

from __future__ import annotations

import pytest
import torch

from models.parts.pooling import AttentiveStatisticsPooling, SelfAttentivePooling, StatisticsPooling


def test_statistics_are_mean_and_standard_deviation() -> None:
    torch.manual_seed(0)
    frames = torch.randn(3, 11, 5)
    pooled = StatisticsPooling(5)(frames)
    assert torch.allclose(pooled[:, :5], frames.mean(dim=1), atol=1e-6)
    assert torch.allclose(pooled[:, 5:], frames.std(dim=1, correction=0), atol=1e-6)


def test_equal_attention_gives_plain_statistics() -> None:
    torch.manual_seed(0)
    frames = torch.randn(3, 11, 5)
    weighted, plain = AttentiveStatisticsPooling(5), StatisticsPooling(5)
    mean = SelfAttentivePooling(5)
    for pooling in (weighted, mean):
        torch.nn.init.zeros_(pooling.weigh.attention)
    assert torch.allclose(weighted(frames), plain(frames), atol=1e-5)
    assert torch.allclose(mean(frames), frames.mean(dim=1), atol=1e-6)


def test_attention_picks_the_frame_it_scores_highest() -> None:
    pooling = SelfAttentivePooling(2)
    with torch.no_grad():
        pooling.weigh.hidden.weight.copy_(torch.eye(2) * 10)
        pooling.weigh.hidden.bias.zero_()
        pooling.weigh.attention.copy_(torch.tensor([[50.0], [0.0]]))
    frames = torch.tensor([[[-1.0, 3.0], [1.0, 4.0], [-1.0, 5.0]]])
    assert torch.allclose(pooling(frames), torch.tensor([[1.0, 4.0]]))


@pytest.mark.parametrize("pooling", [SelfAttentivePooling, AttentiveStatisticsPooling, StatisticsPooling])
def test_a_constant_sequence_has_finite_gradients(pooling: type[torch.nn.Module]) -> None:
    frames = torch.ones(2, 7, 4, requires_grad=True)
    module = pooling(4)
    out = module(frames)
    assert out.shape == (2, module.output_size)
    out.sum().backward()
    assert torch.isfinite(frames.grad).all()
