"""Networks go through torch.compile in one graph, and compute the same."""

from __future__ import annotations

import copy

import pytest
import torch

from models.registry import build_network, network_names


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name == "tdnn" else pytest.mark.slow) for name in network_names()],
)
@pytest.mark.parametrize("half", [False, True])
def test_one_graph_that_computes_the_same(name: str, half: bool) -> None:
    """Traced and differentiated by the compiler; its code generation (minutes on a CPU) is left out."""
    torch.manual_seed(0)
    plain = build_network(name, {"embedding_size": 16})
    compiled = torch.compile(copy.deepcopy(plain), backend="aot_eager", fullgraph=True)
    audio, direction = 0.1 * torch.randn(3, 4000), torch.randn(3, 16)
    results = []
    for network in (plain, compiled):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            embeddings = network(audio)
        (embeddings * direction).sum().backward()
        results.append([embeddings, *(parameter.grad for parameter in network.parameters())])
    torch.compiler.reset()
    for found, wanted in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
