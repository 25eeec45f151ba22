"""Regenerate networks.npz from checkouts of the original implementations.

    git clone https://github.com/clovaai/voxceleb_trainer
    git clone https://github.com/wenet-e2e/wespeaker
    pip install --no-deps --target asteroid asteroid-filterbanks
    PYTHONPATH=asteroid python tests/golden/make_networks.py voxceleb_trainer wespeaker

The originals' own classes are imported from these paths and run on the inputs and weights of
network_recipe.py, in float64 and in float32. Needs this project's environment; contains none of their code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import FOLDER
from network_recipe import EVALUATED_ONLY, NETWORKS, fill_learnt, network_input, step
from torch import nn

Forward = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainer", type=Path, help="folder of a checkout of the VoxCeleb trainer")
    parser.add_argument("wespeaker", type=Path, help="folder of a checkout of wespeaker")
    args = parser.parse_args()
    sys.path.insert(0, str(args.trainer.resolve()))
    package = types.ModuleType("wespeaker")  # without its __init__, which imports all of it
    package.__path__ = [str(args.wespeaker.resolve() / "wespeaker")]
    sys.modules["wespeaker"] = package
    outputs: dict[str, Any] = {}
    for name, (network, options) in NETWORKS.items():
        for key, value in golden(network, options, train=name not in EVALUATED_ONLY).items():
            outputs[f"{name}/{key}"] = value
        print(name)
    np.savez_compressed(FOLDER / "networks.npz", **outputs)


def golden(network: str, options: dict[str, Any], *, train: bool) -> dict[str, Any]:
    """float64 outputs, and how far the original's own float32 is from them."""
    found: dict[torch.dtype, dict[str, np.ndarray]] = {}
    for dtype in (torch.float64, torch.float32):
        torch.manual_seed(0)
        module, forward = original(network, options)
        shapes = fill_learnt(in_order(network, module))
        module.to(dtype).eval()
        with torch.no_grad():
            results = {"eval": forward(network_input(network, options, "eval").to(dtype))}
        if train:
            learnt = dict(module.named_parameters())
            names = [key for key, _ in in_order(network, module) if key in learnt]
            results |= step(module, network_input(network, options, "train").to(dtype), forward, names)
        found[dtype] = {key: value.double().numpy() for key, value in results.items()}
    kept: dict[str, Any] = {"shapes": json.dumps(shapes)}
    for key, wanted in found[torch.float64].items():
        kept[f"float32/{key}"] = np.linalg.norm(found[torch.float32][key] - wanted) / np.linalg.norm(wanted)
        if key != "gradient":  # millions of numbers: its norms and some elements say enough
            kept[key] = wanted
    return kept


def in_order(network: str, module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """The state in the order of the recipe, which is that of the computation."""
    constants = ("torchfb.", "preprocess.0.", "conv1.filterbank.window_", "conv1.filterbank.n_")
    state = {key: value for key, value in module.state_dict().items() if not key.startswith(constants)}
    if network == "vggvox" and "attention" in state:
        tail = {key: state.pop(key) for key in ("attention", "sap_linear.weight", "sap_linear.bias")}
        fc = {key: state.pop(key) for key in ("fc.weight", "fc.bias")}
        state |= tail | fc
    return list(state.items())


def original(network: str, options: dict[str, Any]) -> tuple[nn.Module, Forward]:
    size = options["embedding_size"]
    if network == "vggvox":
        module = importlib.import_module("models.VGGVox").MainModel(
            nOut=size, encoder_type=options["pooling"].upper(), log_input=options.get("log_input", True)
        )
        return module, module
    if network == "resnetse34v2":
        source = importlib.import_module("models.ResNetSE34V2")
        widths = [options["channels"] * 2**stage for stage in range(4)]
        module = source.ResNetSE(
            source.SEBasicBlock,
            [3, 4, 6, 3],
            widths,
            size,
            encoder_type=options["pooling"].upper(),
            n_mels=options["n_mels"],
        )
        return module, module
    if network == "rawnet3":
        source = importlib.import_module("models.RawNet3")
        module = source.RawNet3(
            source.Bottle2neck,
            model_scale=8,
            C=options["channels"],
            context=options.get("context", True),
            summed=options.get("summed", True),
            log_sinc=options.get("log_sinc", True),
            norm_sinc=options.get("norm_sinc", "mean"),
            out_bn=options.get("embedding_norm", False),
            encoder_type=options.get("pooling", "eca").upper(),
            sinc_stride=options.get("sinc_stride", 10),
            nOut=size,
        )
        del module.bn1  # made, and never used
        if not module.out_bn:
            del module.bn6
        return module, module
    if network == "ecapa_tdnn":
        module = importlib.import_module("wespeaker.models.ecapa_tdnn").ECAPA_TDNN(
            channels=options["channels"],
            feat_dim=options.get("n_mels", 80),
            embed_dim=size,
            global_context_att=options.get("context", True),
            emb_bn=options.get("embedding_norm", False),
        )
        return module, from_features(module)
    if network == "campplus":
        module = importlib.import_module("wespeaker.models.campplus").CAMPPlus(
            feat_dim=options.get("n_mels", 80),
            embed_dim=size,
            growth_rate=options["growth"],
            init_channels=options["channels"],
        )
        return module, from_features(module)
    if network == "simam_resnet":
        source = importlib.import_module("wespeaker.models.samresnet")
        made = source.SimAM_ResNet100_ASP if options.get("depth") == 100 else source.SimAM_ResNet34_ASP
        module = made(options["channels"], size, options.get("n_mels", 80))
        return module, from_features(module)
    source = importlib.import_module("wespeaker.models.resnet")
    blocks = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3]}[options["depth"]]
    module = source.ResNet(
        source.BasicBlock if options["depth"] < 50 else source.Bottleneck,
        blocks,
        m_channels=options["channels"],
        feat_dim=options.get("n_mels", 80),
        embed_dim=size,
        two_emb_layer=options.get("second_layer", False),
    )
    return module, from_features(module)


def from_features(module: nn.Module) -> Forward:
    def forward(features: torch.Tensor) -> torch.Tensor:
        found = module(features.transpose(1, 2))
        return found[-1] if isinstance(found, tuple) else found

    return forward


if __name__ == "__main__":
    main()
