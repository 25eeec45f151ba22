"""Networks go through torch.compile in one graph, and compute the same."""

from __future__ import annotations

import copy

import pytest
import torch

from models.registry import build_network, least_samples, network_names

pytestmark = pytest.mark.slow

SMALL = {
    "campplus": {"channels": 16, "growth": 4},
    "simam_resnet": {"channels": 4},
    "eres2netv2": {"channels": 16},
    "redimnet": {"n_mels": 24, "channels": 8, "stages": "1 1 1 12; 2 1 2 12", "group_size": 2},
    "redimnet2": {"n_mels": 24, "channels": 8, "stages": "1x1 1 2 3x3 12; 2x2 1 1 3x3 12"},
    "ecapa_speechbrain": {"channels": 16},
    "ecapa_tdnn": {"channels": 32},
    "rawnet3": {"channels": 32},
    "resnet": {"channels": 4},
    "resnetse34v2": {"channels": 8},
}


DIFFERENTIATED = {"resnetse34l": (True,), "tdnn": (False, True)}
"""In which precisions gradients go through the compiler too; more take minutes and tell nothing more."""

STAND_FOR_ALL = ("tdnn", "ecapa_tdnn")
CASES = [
    pytest.param(*(name, half, backend), marks=() if name in STAND_FOR_ALL else pytest.mark.exhaustive)
    for name in network_names()
    if name != "pretrained"  # whose encoder is left as it is
    for half in DIFFERENTIATED.get(name, (False,))
    for backend in ("aot_eager" if name in DIFFERENTIATED else "eager",)
]


@pytest.mark.parametrize(("name", "half", "backend"), CASES)
def test_one_graph_that_computes_the_same(
    name: str, half: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced by the compiler in one piece; its code generation (minutes on a CPU) is left out."""
    monkeypatch.setattr("models.networks.campplus._BLOCKS", ((2, 1), (2, 2), (1, 2)))  # of (12, 24, 16) alike
    torch.manual_seed(0)
    plain = build_network(name, {"embedding_size": 16} | SMALL.get(name, {}))
    compiled = torch.compile(copy.deepcopy(plain), backend=backend, fullgraph=True)
    audio, direction = 0.1 * torch.randn(3, max(4000, least_samples(plain))), torch.randn(3, 16)
    results = []
    for network in (plain, compiled):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            embeddings = network(audio)
        (embeddings * direction).sum().backward()
        results.append([embeddings, *(parameter.grad for parameter in network.parameters())])
    torch.compiler.reset()
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    # Gradients together: sums over time are taken in another order, and some gradients are rounding alone.
    found, wanted = (torch.cat([gradient.flatten() for gradient in one[1:]]) for one in reversed(results))
    assert torch.linalg.norm(found - wanted) <= (0.02 if half else 1e-3) * torch.linalg.norm(wanted)
