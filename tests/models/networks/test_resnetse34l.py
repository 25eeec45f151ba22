"""Fast ResNet-34 computes what the VoxCeleb trainer's network computes, compiled and in bfloat16 too."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from golden_recipe import AUDIO, FOLDER, NETWORKS, audio, draw, fill
from torch import nn

from models.options import ModelError
from models.registry import build_network


def relative_error(found: torch.Tensor, wanted: np.ndarray) -> float:
    """Norm of the difference over the norm of what is wanted, worst row."""
    difference = found.detach().double().numpy() - wanted.astype(np.float64)
    rows = len(difference) if difference.ndim > 1 else 1
    norms = np.linalg.norm(difference.reshape(rows, -1), axis=1)
    return float((norms / np.linalg.norm(wanted.reshape(rows, -1), axis=1)).max())


def golden_network(name: str) -> tuple[nn.Module, list[list[int]]]:
    network = build_network("resnetse34l", NETWORKS[name])
    state = network.state_dict()
    learnt = [
        key for key in state if not key.startswith("frontend.") and not key.endswith("num_batches_tracked")
    ]
    return network, fill((key, state[key]) for key in learnt)


@pytest.fixture(params=sorted(NETWORKS))
def golden(request: pytest.FixtureRequest) -> tuple[nn.Module, list[list[int]], Any]:
    return *golden_network(request.param), np.load(FOLDER / f"resnetse34l_{request.param}.npz")


@pytest.mark.slow
def test_same_outputs_as_the_voxceleb_trainer(golden: tuple[nn.Module, list[list[int]], Any]) -> None:
    network, shapes, outputs = golden
    assert shapes == json.loads(str(outputs["shapes"]))
    network.eval()
    for name in AUDIO:
        with torch.no_grad():
            assert relative_error(network(audio(name)), outputs[f"eval/{name}"]) <= 1e-5


@pytest.mark.slow
def test_same_training_step_as_the_voxceleb_trainer(golden: tuple[nn.Module, list[list[int]], Any]) -> None:
    network, _, outputs = golden
    network.train()
    embeddings = network(audio("step"))
    (embeddings * draw("direction", *embeddings.shape)).sum().backward()
    assert relative_error(embeddings, outputs["train/embeddings"]) <= 1e-5
    assert relative_error(network.bn1.running_var, outputs["train/running_var"]) <= 1e-5
    gradients = [parameter.grad for _, parameter in network.named_parameters()]
    assert relative_error(gradients[0].flatten(), outputs["train/gradient_conv1"].ravel()) <= 1e-4
    norms = torch.stack([gradient.norm() for gradient in gradients])
    assert relative_error(norms, outputs["train/gradient_norms"]) <= 1e-4


@pytest.mark.slow
def test_the_golden_outputs_can_tell_a_different_network() -> None:
    network, _ = golden_network("sap")
    network.eval()
    with torch.no_grad():
        next(p for name, p in network.named_parameters() if name == "stages.2.3.se.excite.bias")[0] += 0.1
        found = network(audio("crop"))
    assert relative_error(found, np.load(FOLDER / "resnetse34l_sap.npz")["eval/crop"]) > 1e-4


@pytest.mark.slow
def test_bfloat16_autocast_stays_near_float32() -> None:
    network, _ = golden_network("asp")
    network.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(audio("crop"))
    wanted = np.load(FOLDER / "resnetse34l_asp.npz")["eval/crop"]
    # bfloat16 rounds to 2⁻⁹; 40 layers of independent roundings: √40 · 2⁻⁹ ≈ 1.2 %; 0.4 % was measured.
    assert 1e-5 < relative_error(found.float(), wanted) <= 0.02


def test_initial_weights_follow_the_seed_and_he() -> None:
    def build(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return build_network("resnetse34l", {})

    first, again, other = build(1), build(1), build(2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.fc.weight, other.fc.weight)
    for module in first.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 10000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)
    assert sum(p.numel() for p in first.parameters()) == 1437078


@pytest.mark.parametrize("name", ["resnetse34l", "tdnn"])
def test_any_length_from_one_window(name: str) -> None:
    network = build_network(name, {"embedding_size": 7}).eval()
    for frames in (400, 401, 559, 4000):
        with torch.no_grad():
            embeddings = network(0.1 * torch.randn(2, frames))
        assert embeddings.shape == (2, 7)
        assert torch.isfinite(embeddings).all()
    with pytest.raises(ModelError, match="399 frames is shorter than one window of 400 frames"):
        network(torch.zeros(2, 399))
    with pytest.raises(ModelError, match=r"shape \(4000,\)"):
        network(torch.zeros(4000))


@pytest.mark.parametrize("name", ["resnetse34l", "tdnn"])
def test_silence_trains_without_nan(name: str) -> None:
    network = build_network(name, {})
    network(torch.zeros(3, 8000)).square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())
