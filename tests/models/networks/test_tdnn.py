"""The small network learns, ignores level, and works in bfloat16."""

from __future__ import annotations

import pytest
import torch

from models.registry import build_network


def tones(speakers: int, utterances: int) -> torch.Tensor:
    """(speakers * utterances, 8000): each speaker a tone of their own, on and off, in noise; random level.

    On and off, because a tone that never stops is what the front-end takes for the channel.
    """
    time = torch.arange(8000) / 16000
    pitch = 200.0 + 300.0 * torch.arange(speakers).repeat_interleave(utterances)
    beat = (torch.sin(2 * torch.pi * 8 * time) > 0).float()
    audio = beat * torch.sin(2 * torch.pi * pitch[:, None] * time) + 0.3 * torch.randn(len(pitch), 8000)
    return audio * (0.02 + 0.2 * torch.rand(len(pitch), 1))


@pytest.mark.slow
def test_learns_to_tell_tones_apart() -> None:
    torch.manual_seed(0)
    network = build_network("tdnn", {"channels": 16, "embedding_size": 8})
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    labels = torch.arange(8).repeat_interleave(4)
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(network(tones(8, 4)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        accuracy = (network(tones(8, 4)).argmax(1) == labels).float().mean()
    assert accuracy > 0.9


def test_level_does_not_matter() -> None:
    torch.manual_seed(0)
    network = build_network("tdnn", {}).eval()
    audio = 0.2 * torch.randn(2, 16000)
    with torch.no_grad():
        loud, soft = network(audio), network(audio * 0.25)
    # Only the floor added to the mel energies tells the two apart.
    assert torch.allclose(loud, soft, rtol=0, atol=0.01 * loud.abs().max().item())


def test_bfloat16_autocast_stays_near_float32() -> None:
    torch.manual_seed(0)
    network = build_network("tdnn", {}).eval()
    audio = 0.1 * torch.randn(2, 16000)
    with torch.no_grad():
        wanted = network(audio)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(audio)
    # Six layers rounded to 2⁻⁹ each: √6 · 2⁻⁹ ≈ 0.5 %, allowed fourfold.
    assert (found - wanted).norm() / wanted.norm() <= 0.02
    assert not torch.equal(found.float(), wanted)


@pytest.mark.parametrize("training", [True, False])
def test_output_does_not_depend_on_neighbours_in_evaluation_only(training: bool) -> None:
    torch.manual_seed(0)
    network = build_network("tdnn", {}).train(training)
    audio = 0.1 * torch.randn(4, 8000)
    with torch.no_grad():
        together, pair = network(audio)[:2], network(audio[:2])
    assert torch.allclose(together, pair, atol=1e-5) is not training
