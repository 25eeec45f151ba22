"""Networks that are compared with another implementation: which, with what options, on what input.

Inputs and weights are formulas (golden_recipe.py); the outputs lie in networks.npz.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from golden_recipe import draw, fill
from torch import nn

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "vggvox_sap": ("vggvox", {"pooling": "sap", "embedding_size": 24}),
    "vggvox_tap": ("vggvox", {"pooling": "tap", "embedding_size": 24}),
    "vggvox_max": ("vggvox", {"pooling": "max", "embedding_size": 24, "log_input": False}),
    "lite_sap": ("resnetse34l", {"n_mels": 40, "embedding_size": 24}),
    "v2_sap": ("resnetse34v2", {"n_mels": 40, "pooling": "sap", "channels": 8, "embedding_size": 24}),
    "v2_asp": ("resnetse34v2", {"n_mels": 64, "pooling": "asp", "channels": 8, "embedding_size": 24}),
    "v2_asp_80": ("resnetse34v2", {"n_mels": 80, "pooling": "asp", "channels": 8, "embedding_size": 24}),
    "rawnet3": ("rawnet3", {"channels": 64, "embedding_size": 24}),
    "rawnet3_other": (
        "rawnet3",
        {
            "channels": 32,
            "pooling": "asp",
            "context": False,
            "summed": False,
            "log_sinc": False,
            "norm_sinc": "none",
            "sinc_stride": 16,
            "embedding_norm": True,
            "embedding_size": 24,
        },
    ),
    "rawnet3_mean_std": ("rawnet3", {"channels": 32, "norm_sinc": "mean_std", "embedding_size": 24}),
    "ecapa": ("ecapa_tdnn", {"channels": 64, "embedding_size": 24}),
    "ecapa_plain": (
        "ecapa_tdnn",
        {"channels": 32, "n_mels": 40, "context": False, "embedding_norm": True, "embedding_size": 24},
    ),
    "ecapa_3d": (
        "ecapa_speechbrain",
        {"channels": 16, "n_mels": 16, "features": "3d-speaker", "embedding_size": 24},
    ),
    "ecapa_speechbrain": (
        "ecapa_speechbrain",
        {"channels": 8, "n_mels": 40, "context": False, "features": "speechbrain", "embedding_size": 24},
    ),
    "campplus": ("campplus", {"channels": 32, "growth": 8, "embedding_size": 24}),
    "campplus_3d": (
        "campplus",
        {"channels": 16, "growth": 4, "n_mels": 16, "features": "3d-speaker", "embedding_size": 24},
    ),
    "eres2netv2": ("eres2netv2", {"channels": 16, "n_mels": 40, "embedding_size": 24}),
    "eres2netv2_other": (
        "eres2netv2",
        {
            "channels": 8,
            "base_width": 32,
            "scale": 3,
            "expansion": 3,
            "n_mels": 16,
            "second_layer": True,
            "embedding_size": 24,
        },
    ),
    "redimnet": (
        "redimnet",
        {
            "n_mels": 24,
            "channels": 8,
            "stages": "1 2 1 12; 2 2 2 12; 1 1 3 0; 3 2 1 8",
            "blocks": "resnet_se",
            "group_size": 1,
            "embedding_size": 24,
        },
    ),
    "redimnet_convnext": (
        "redimnet",
        {
            "n_mels": 20,
            "channels": 8,
            "stages": "1 2 1 0; 2 2 2 10",
            "blocks": "convnext",
            "group_size": 4,
            "context": "attention",
            "pooled_channels": 40,
            "pooling_context": False,
            "embedding_norm": True,
            "embedding_size": 24,
        },
    ),
    "redimnet_other": (
        "redimnet",
        {
            "n_mels": 20,
            "channels": 4,
            "stages": "2 1 1 10; 1 1 1 10",
            "blocks": "convnext_relu",
            "group_size": 2,
            "context": "linear",
            "embedding_size": 24,
        },
    ),
    "redimnet_conv": (
        "redimnet",
        {
            "n_mels": 12,
            "channels": 4,
            "stages": "1 1 1 6; 1 1 1 6",
            "blocks": "resnet",
            "group_size": 1,
            "context": "conv",
            "embedding_size": 24,
        },
    ),
    "redimnet2": (
        "redimnet2",
        {
            "n_mels": 24,
            "channels": 8,
            "stages": "1x1 2 2 3x3 12; 2x1 1 1 3x3 12; 1x2 2 1 3x3 0; 2x2 1 0.5 3x3 8",
            "pooled_channels": 16,
            "pool_maps": False,
            "features": "mel",
            "unit_audio": False,
            "embedding_size": 24,
        },
    ),
    "redimnet2_maps": (
        "redimnet2",
        {
            "n_mels": 24,
            "channels": 8,
            "stages": "1x1 1 1 3x5 12; 2x2 1 2 5x3 16",
            "blocks": "convnext",
            "group_size": 4,
            "pooled_channels": 16,
            "pool_maps": True,
            "features": "mel",
            "unit_audio": False,
            "embedding_size": 24,
        },
    ),
    "redimnet2_two": (
        "redimnet2",
        {
            "n_mels": 12,
            "channels": 4,
            "stages": "1x1 1 1 3x3 6; 2x2 1 1 3x3 0; 1x1 1 2 3x3 6",
            "pooled_channels": 8,
            "two_outputs": True,
            "normed_outputs": True,
            "pool_maps": False,
            "features": "mel",
            "unit_audio": False,
            "embedding_size": 24,
        },
    ),
    "redimnet2_plain": (
        "redimnet2",
        {
            "n_mels": 12,
            "channels": 4,
            "stages": "1x1 1 1 3x3 6; 2x1 1 1 3x3 6",
            "pooled_channels": -1,
            "blocks": "resnet_se",
            "grouped_strides": False,
            "normed_outputs": True,
            "pooling_context": False,
            "embedding_norm": True,
            "pool_maps": False,
            "features": "mel",
            "unit_audio": False,
            "embedding_size": 24,
        },
    ),
    "redimnet2_released": (
        "redimnet2",
        {
            "n_mels": 24,
            "channels": 8,
            "stages": "1x1 2 2 3x3 12; 2x1 1 1 3x3 12; 1x2 2 1 3x3 8",
            "pooled_channels": -1,
            "features": "tfmel",
            "unit_audio": True,
            "hop_length": 200,
            "embedding_size": 24,
        },
    ),
    "redimnet_released": (
        "redimnet",
        {
            "n_mels": 20,
            "channels": 4,
            "stages": "1 1 1 10; 2 1 1 10",
            "blocks": "resnet",
            "group_size": 1,
            "unit_audio": True,
            "hop_length": 240,
            "embedding_size": 24,
        },
    ),
    "wespeaker_redimnet": (
        "redimnet",
        {
            "n_mels": 24,
            "channels": 8,
            "stages": "1 1 2 12; 2 1 1 0; 1 1 1 12",
            "blocks": "resnet_se",
            "group_size": 1,
            "features": "kaldi",
            "pooled_norm": False,
            "embedding_size": 24,
        },
    ),
    "simam34": ("simam_resnet", {"channels": 8, "n_mels": 40, "embedding_size": 24}),
    "simam100": ("simam_resnet", {"depth": 100, "channels": 4, "embedding_size": 24}),
    "resnet18": ("resnet", {"depth": 18, "channels": 8, "second_layer": True, "embedding_size": 24}),
    "resnet34": ("resnet", {"depth": 34, "channels": 8, "n_mels": 40, "embedding_size": 24}),
    "resnet34_3d": (
        "resnet",
        {
            "channels": 4,
            "n_mels": 16,
            "second_layer": True,
            "features": "3d-speaker",
            "embedding_size": 24,
        },
    ),
    "resnet50": ("resnet", {"depth": 50, "channels": 4, "embedding_size": 24}),
}
"""Golden networks: name → (network, options)."""

ONE_OF_EACH = tuple({network: name for name, (network, _) in reversed(NETWORKS.items())}.values())

EVALUATED_ONLY = ("rawnet3_mean_std",)
"""Whose originals cannot be trained: they change in place what today's torch needs for the gradient."""

FROM_FEATURES = (
    "campplus",
    "ecapa_speechbrain",
    "ecapa_tdnn",
    "eres2netv2",
    "redimnet",
    "redimnet2",
    "resnet",
    "simam_resnet",
)
"""Whose originals take features and not audio, or work in float32 until then."""

AUDIO = {"eval": (2, 24241), "train": (4, 2400)}
FEATURES = {"eval": (2, 151), "train": (4, 21)}
"""Sizes of the inputs: (utterances, samples or feature frames).

A training step takes short ones, as in golden_recipe.py: fewer activations lie near a kink.
VGGVox needs more.
"""

SALTS: dict[str, int] = {}
"""Of networks that are trained on another input, since an activation of the first lies too near a kink."""

_VGGVOX_TRAIN = (4, 9921)
CONVERTED = {"samples": 12000, "utterances": 2}
"""The audio that whole originals, front-end and all, are compared on after their files were converted."""

_ELEMENTS = 16
"""Elements of each parameter's gradient that are compared one by one."""


def network_input(name: str, use: str) -> torch.Tensor:
    """float64 audio (B, samples), or features (B, n_mels, T), for the golden network `name`."""
    network, options = NETWORKS[name]
    salt = f" {SALTS[name]}" if use == "train" and name in SALTS else ""
    if network in FROM_FEATURES:
        utterances, frames = FEATURES[use]
        return 2 * draw(f"features {use}{salt}", utterances, options.get("n_mels", 80), frames).double()
    utterances, samples = _VGGVOX_TRAIN if (network, use) == ("vggvox", "train") else AUDIO[use]
    loudness = draw(f"loudness {use}{salt}", utterances, samples // 800 + 1, low=0.02, high=0.5)
    noise = draw(f"waveform {use}{salt}", utterances, samples)
    return (noise * loudness.repeat_interleave(800, dim=1)[:, :samples]).double()


def audio_input() -> torch.Tensor:
    """float32 (2, 12000) audio in [-1, 1)."""
    utterances, samples = CONVERTED["utterances"], CONVERTED["samples"]
    loudness = draw("loudness", utterances, samples // 800, low=0.02, high=0.5)
    return draw("waveform", utterances, samples) * loudness.repeat_interleave(800, dim=1)


def fill_learnt(state: Iterable[tuple[str, torch.Tensor]]) -> list[list[int]]:
    """As `fill`, for what a network learns: counters and constants stay.

    The edges of sinc filters are rounded to whole Hz: the last digits of a logarithmic scale are another on
    another kind of CPU.
    """
    learnt = []
    for name, values in state:
        if name.endswith(("low_hz", "band_hz", "low_hz_", "band_hz_")):
            values.detach().round_()
        elif not name.endswith("num_batches_tracked"):
            learnt.append((name, values))
    return fill(learnt)


def original_file(name: str, golden: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """The state_dict of the golden network's original, with our tensors, `state`, filled by fill_learnt.

    What the original keeps besides is made up: constants of front-ends, layers that are never used.
    """
    ours = dict(zip(json.loads(str(golden[f"{name}/order"])), state.values(), strict=True))
    types = {"torch.float32": torch.float32, "torch.int64": torch.int64}
    return {
        key: ours[key] if key in ours else torch.full(shape, 7, dtype=types[dtype])
        for key, shape, dtype in json.loads(str(golden[f"{name}/file"]))
    }


def step(
    network: nn.Module, given: torch.Tensor, forward: Any, names: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Embeddings and gradient of a training step; of each parameter's gradient the norm and some elements."""
    network.train()
    network.zero_grad()
    embeddings = forward(given)
    (embeddings * draw("direction", *embeddings.shape)).sum().backward()
    parameters = dict(network.named_parameters())
    gradients = [g for name in names if (g := parameters[name].grad) is not None]
    sampled = [
        gradient.reshape(-1)[(draw(f"elements {n}", _ELEMENTS, low=0.0, high=1.0) * gradient.numel()).long()]
        for n, gradient in enumerate(gradients)
    ]
    return {
        "embeddings": embeddings.detach(),
        "gradient": torch.cat([gradient.flatten() for gradient in gradients]),
        "gradient_norms": torch.stack([gradient.norm() for gradient in gradients]),
        "gradients": torch.stack(sampled),
    }
