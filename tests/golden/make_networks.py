"""Regenerate networks.npz from checkouts of the original implementations.

    git clone https://github.com/clovaai/voxceleb_trainer
    git clone https://github.com/wenet-e2e/wespeaker
    git clone https://github.com/modelscope/3D-Speaker
    git clone https://github.com/IDRnD/redimnet
    git clone https://github.com/PalabraAI/redimnet2
    git clone https://github.com/speechbrain/speechbrain
    pip install --no-deps --target asteroid asteroid-filterbanks
    PYTHONPATH=asteroid python tests/golden/make_networks.py voxceleb_trainer wespeaker 3D-Speaker \
        redimnet redimnet2 speechbrain

The originals' own classes are imported from these paths and run on the inputs and weights of
network_recipe.py, in float64 and in float32. Needs this project's environment; contains none of their code.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from golden_recipe import FOLDER
from network_recipe import (
    EVALUATED_ONLY,
    FROM_FEATURES,
    NETWORKS,
    audio_input,
    fill_learnt,
    network_input,
    step,
)
from torch import nn
from torchaudio.compliance import kaldi

Forward = Callable[[torch.Tensor], torch.Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainer", type=Path, help="folder of a checkout of the VoxCeleb trainer")
    parser.add_argument("wespeaker", type=Path, help="folder of a checkout of wespeaker")
    parser.add_argument("others", type=Path, nargs=3, help="those of 3D-Speaker, redimnet and redimnet2")
    parser.add_argument("speechbrain", type=Path, help="folder of a checkout of speechbrain")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="make these, keep the others")
    args = parser.parse_args()
    sys.path[:0] = [str(folder.resolve()) for folder in (args.trainer, *args.others)]
    for name, folder in (("wespeaker", args.wespeaker), ("speechbrain", args.speechbrain)):
        package = types.ModuleType(name)  # without its __init__, which imports all of it
        package.__path__ = [str(folder.resolve() / name)]
        sys.modules[name] = package
    outputs: dict[str, Any] = {}
    if args.only:
        with np.load(FOLDER / "networks.npz") as file:
            outputs |= file
    for name in args.only or NETWORKS:
        for key, value in (golden(name) | whole(name)).items():
            outputs[f"{name}/{key}"] = value
    np.savez_compressed(FOLDER / "networks.npz", **outputs)


def golden(name: str) -> dict[str, Any]:
    """float64 outputs, and how far the original's own float32 is from them at most."""
    exact, shapes = computed(name, torch.float64)
    kept: dict[str, Any] = {"shapes": json.dumps(shapes)}
    rounded = []
    for fused in (True, False):
        for order in (torch.contiguous_format, torch.channels_last):
            # Sums in another order, as another kind of CPU has them.
            with torch.backends.mkldnn.flags(enabled=fused):
                rounded.append(computed(name, torch.float32, order)[0])
    for key, wanted in exact.items():
        distances = [np.linalg.norm(one[key] - wanted) / np.linalg.norm(wanted) for one in rounded]
        kept[f"float32/{key}"] = max(distances)
        if key != "gradient":  # millions of numbers: its norms and some elements say enough
            kept[key] = wanted
        if key in ("eval", "embeddings", "gradient"):
            print(f"{name:18} {key:10} float32 is off by", " ".join(f"{d:.1e}" for d in distances))
    return kept


def computed(
    name: str, dtype: torch.dtype, order: torch.memory_format = torch.contiguous_format
) -> tuple[dict[str, np.ndarray], list[list[int]]]:
    """Outputs of the original in evaluation and of a training step; the shapes of what it learns."""
    network, options = NETWORKS[name]
    torch.manual_seed(0)
    module, forward = original(network, options)
    shapes = fill_learnt(in_order(network, module))
    module.to(dtype=dtype, memory_format=order).eval()
    with torch.no_grad():
        results = {"eval": forward(network_input(name, "eval").to(dtype))}
    if name not in EVALUATED_ONLY:
        learnt = dict(module.named_parameters())
        names = [key for key, _ in in_order(network, module) if key in learnt]
        results |= step(module, network_input(name, "train").to(dtype), forward, names)
    return {key: value.double().numpy() for key, value in results.items()}, shapes


def in_order(network: str, module: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """The state in the order of the recipe, which is that of the computation."""
    constants = ("torchfb.", "spec.", "preprocess.0.", "conv1.filterbank.window_", "conv1.filterbank.n_")
    state = {key: value for key, value in module.state_dict().items() if not key.startswith(constants)}
    if network == "rawnet3":  # made, and never used
        unused = ("bn1.",) if module.out_bn else ("bn1.", "bn6.")
        state = {key: value for key, value in state.items() if not key.startswith(unused)}
    sums = {key: value for key, value in state.items() if key.startswith("backbone.inputs_weights.")}
    if sums:  # wespeaker's ReDimNet has them all in front
        state = beside_their_stages(state, sums)
    for first in ("stage0", "stage0_pre"):
        state.pop(f"backbone.{first}.0.w", None)  # the weight of a sum of one
    if network in ("vggvox", "resnetse34l") and "attention" in state:
        tail = {key: state.pop(key) for key in ("attention", "sap_linear.weight", "sap_linear.bias")}
        fc = {key: state.pop(key) for key in ("fc.weight", "fc.bias")}
        state |= tail | fc
    return list(state.items())


def beside_their_stages(
    state: dict[str, torch.Tensor], sums: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The weights of each sum before the stage that it is for; those of the first, a sum of one, left out."""
    ordered: dict[str, torch.Tensor] = {}
    for key, value in state.items():
        if key in sums:
            continue
        stage = re.match(r"backbone\.stage(\d+)\.", key)
        number = int(stage[1]) if stage else len(sums) - 1 if key.startswith("pool.") else 0
        weights = f"backbone.inputs_weights.{number}"
        if number and weights not in ordered:
            ordered[weights] = sums[weights]
        ordered[key] = value
    return ordered


def original(network: str, options: dict[str, Any]) -> tuple[nn.Module, Forward]:
    size = options["embedding_size"]
    if network == "vggvox":
        module = importlib.import_module("models.VGGVox").MainModel(
            nOut=size, encoder_type=options["pooling"].upper(), log_input=options.get("log_input", True)
        )
        return module, module
    if network == "resnetse34l":
        module = importlib.import_module("models.ResNetSE34L").MainModel(
            nOut=size, encoder_type=options.get("pooling", "sap").upper(), n_mels=options["n_mels"]
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
    if network == "ecapa_speechbrain":
        theirs = options["features"] == "3d-speaker"
        source = (
            "speakerlab.models.ecapa_tdnn.ECAPA_TDNN" if theirs else "speechbrain.lobes.models.ECAPA_TDNN"
        )
        module = importlib.import_module(source).ECAPA_TDNN(
            input_size=options["n_mels"],
            lin_neurons=size,
            channels=[options["channels"]] * 4 + [3 * options["channels"]],
            global_context=options.get("context", True),
        )
        return module, in_its_type(from_features(module))
    if network == "campplus" and options.get("features") == "3d-speaker":
        module = importlib.import_module("speakerlab.models.campplus.DTDNN").CAMPPlus(
            feat_dim=options.get("n_mels", 80),
            embedding_size=size,
            growth_rate=options["growth"],
            init_channels=options["channels"],
            memory_efficient=False,
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
    if network == "eres2netv2":
        module = importlib.import_module("speakerlab.models.eres2net.ERes2NetV2").ERes2NetV2(
            feat_dim=options["n_mels"],
            embedding_size=size,
            m_channels=options["channels"],
            baseWidth=options.get("base_width", 26),
            scale=options.get("scale", 2),
            expansion=options.get("expansion", 2),
            two_emb_layer=options.get("second_layer", False),
        )
        return module, from_features(module)
    if network == "redimnet" and not options.get("pooled_norm", True):
        given = redimnet_config(network, options)
        for other in ("F", "emb_bn", "hop_length", "feat_type", "spec_params"):
            given.pop(other)
        source = importlib.import_module("wespeaker.models.redimnet")
        module = source.ReDimNet(feat_dim=options["n_mels"], **given)
        return module, from_features(module)
    if network.startswith("redimnet"):
        module = redimnet(network, options)
        return module, lambda given: without_frontend(module, given)
    if network == "simam_resnet":
        source = importlib.import_module("wespeaker.models.samresnet")
        made = source.SimAM_ResNet100_ASP if options.get("depth") == 100 else source.SimAM_ResNet34_ASP
        module = made(options["channels"], size, options.get("n_mels", 80))
        return module, from_features(module)
    if options.get("features") == "3d-speaker":
        module = importlib.import_module("speakerlab.models.resnet.ResNet").ResNet(
            m_channels=options["channels"],
            feat_dim=options["n_mels"],
            embedding_size=size,
            two_emb_layer=options["second_layer"],
        )
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


def in_its_type(forward: Forward) -> Forward:
    """As `forward`, whose own constants are of the input's type, too; (B, 1, D) becomes (B, D)."""

    def typed(given: torch.Tensor) -> torch.Tensor:
        before = torch.get_default_dtype()
        torch.set_default_dtype(given.dtype)
        try:
            return forward(given).flatten(1)
        finally:
            torch.set_default_dtype(before)

    return typed


def without_frontend(module: nn.Module, features: torch.Tensor) -> torch.Tensor:
    frontend, module.spec = module.spec, nn.Identity()
    embeddings = module(features)
    module.spec = frontend
    return embeddings


def whole(name: str) -> dict[str, Any]:
    """What the original's file holds, and what it makes of audio, front-end and all, in float32."""
    network, options = NETWORKS[name]
    torch.manual_seed(0)
    module, forward = original(network, options)
    fill_learnt(in_order(network, module))
    module.eval()
    audio = audio_input()
    state = module.state_dict()
    with torch.no_grad():
        if name.startswith("redimnet"):
            embeddings = module(audio)
        elif options.get("features") == "speechbrain":
            source = importlib.import_module("speechbrain.lobes.features")
            normalise = importlib.import_module("speechbrain.processing.features").InputNormalization(
                norm_type="sentence", std_norm=False
            )
            features = normalise(source.Fbank(n_mels=options["n_mels"])(audio), torch.ones(len(audio)))
            embeddings = forward(features.transpose(1, 2))
        elif network in FROM_FEATURES:
            theirs = network == "eres2netv2" or options.get("features") == "3d-speaker"
            features = [
                kaldi.fbank(
                    row[None] * (1 if theirs else 32768),
                    num_mel_bins=options.get("n_mels", 80),
                    sample_frequency=16000,
                    window_type="povey" if theirs else "hamming",  # as 3D-Speaker, wespeaker
                )
                for row in audio
            ]
            features = [frames - frames.mean(dim=0) for frames in features]
            embeddings = forward(torch.stack(features).transpose(1, 2))
        else:
            embeddings = module(audio)
    kept = {
        "from_audio": embeddings.numpy(),
        "file": json.dumps([[key, list(value.shape), str(value.dtype)] for key, value in state.items()]),
        "order": json.dumps([key for key, _ in in_order(network, module)]),
    }
    if name.startswith("redimnet"):
        kept["config"] = json.dumps(redimnet_config(network, options))
    return kept


def redimnet(network: str, options: dict[str, Any]) -> nn.Module:
    config = redimnet_config(network, options)
    if network == "redimnet2":
        return importlib.import_module("redimnet2.redimnet2").ReDimNet2Wrap(**config)
    return importlib.import_module("redimnet.model").ReDimNetWrap(**config)


def redimnet_config(network: str, options: dict[str, Any]) -> dict[str, Any]:
    blocks = {
        "resnet": "basic_resnet",
        "resnet_se": "basic_resnet_fwse",
        "convnext": "convnext_like",
        "convnext_relu": "convnext_like_relu",
    }
    contexts = {"conv+attention": "conv+att", "attention": "att", "conv": "conv", "linear": "fc"}
    given = {
        "F": options["n_mels"],
        "C": options["channels"],
        "block_1d_type": contexts[options.get("context", "conv+attention")],
        "block_2d_type": blocks[options.get("blocks", "resnet")],
        "group_divisor": options.get("group_size", 1),
        "embed_dim": options["embedding_size"],
        "global_context_att": options.get("pooling_context", True),
        "emb_bn": options.get("embedding_norm", False),
        "hop_length": options.get("hop_length", 160),
        "feat_type": "tf" if options.get("features") == "tfmel" else "pt",
        "spec_params": {"do_spec_aug": False, "norm_signal": options.get("unit_audio", False)},
    }
    stages: list[Any] = []
    for stage in options["stages"].split(";"):
        words = stage.split()
        if network == "redimnet2":
            stride, kernel = (tuple(map(int, words[n].split("x"))) for n in (0, 3))
            expansion = float(words[2])
            stages.append((stride, int(words[1]), expansion, [kernel], int(words[4]) or None))
        else:
            stages.append((int(words[0]), int(words[1]), int(words[2]), [(3, 3)], int(words[3]) or None))
    if network == "redimnet2":
        given |= {
            "causal": "none",
            "compress_tconvs": options.get("grouped_strides", True),
            "dual_agg": options.get("two_outputs", False),
            "agg_gnorm": options.get("normed_outputs", False),
            "return_2d_output": options.get("pool_maps", True),
        }
        given["out_channels"] = max(0, options["pooled_channels"]) or None
    else:
        given["out_channels"] = options.get("pooled_channels")
    return {"stages_setup": stages, **given}


def from_features(module: nn.Module) -> Forward:
    def forward(features: torch.Tensor) -> torch.Tensor:
        found = module(features.transpose(1, 2))
        return found[-1] if isinstance(found, tuple) else found

    return forward


if __name__ == "__main__":
    main()
