"""Masks over features: drawn from the audio, as wide as was said, in training alone."""

from __future__ import annotations

import pytest
import torch

from models.parts.masks import Masks, uniform
from models.registry import build_network, network_names, network_options


def masked(audio: torch.Tensor, bands: int = 8, frames: int = 20) -> torch.Tensor:
    """Of features that are all 1 the places that are hidden, (B, 40, 100)."""
    return Masks(bands, frames).train()(torch.ones(len(audio), 40, 100), audio) == 0


def test_one_range_of_bands_and_one_of_frames_as_wide_as_was_said() -> None:
    torch.manual_seed(0)
    hidden = masked(torch.randn(2000, 400))
    for axis, widest in ((2, 8), (1, 20)):
        whole = hidden.all(dim=axis)
        widths = whole.sum(dim=1)
        assert set(widths.tolist()) == set(range(widest + 1))
        edges = torch.nn.functional.pad(whole.int(), (1, 1)).diff(dim=1).clamp(min=0).sum(dim=1)
        assert edges.max() == 1  # in one piece
        touched = whole.float().mean(dim=0)
        assert touched.min() > 0
        middle = touched[widest:-widest]  # the ends lie in fewer ranges
        assert middle.max() < 1.6 * middle.min()
    rebuilt = hidden.all(dim=2)[:, :, None] | hidden.all(dim=1)[:, None, :]
    assert torch.equal(rebuilt, hidden)


def test_they_follow_from_the_samples_alone() -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(64, 3200)
    hidden = masked(audio)
    torch.manual_seed(1)
    assert torch.equal(masked(audio[17:18]), hidden[17:18])  # whatever batch an utterance is in
    other = audio.clone()
    other[:, 5] += 1e-6
    assert (masked(other) != hidden).any(dim=(1, 2)).float().mean() > 0.9


def test_hashes_are_spread_evenly() -> None:
    torch.manual_seed(0)
    drawn = torch.stack(uniform(torch.randn(4000, 160), 4))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.stack([torch.histc(one, 10, 0, 1) for one in drawn])
    assert (counts - 400).abs().max() < 100
    assert torch.corrcoef(drawn).triu(1).abs().max() < 0.06
    assert len(torch.unique(torch.stack(uniform(torch.zeros(3, 160), 4)))) == 4


def test_nothing_is_hidden_in_evaluation_or_without_widths() -> None:
    features, audio = torch.randn(3, 40, 100), torch.randn(3, 16000)
    assert Masks(8, 20).eval()(features, audio) is features
    assert Masks(0, 0).train()(features, audio) is features


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in network_names() if n not in ("rawnet3", "pretrained")])
def test_networks_have_the_options(name: str) -> None:
    assert network_options(name, {})["mask_bands"] == 0
    options = {"mask_bands": 4, "mask_frames": 10}
    masks = [part for part in build_network(name, options).modules() if isinstance(part, Masks)]
    assert [part.widest for part in masks] == [(4, 10)]
