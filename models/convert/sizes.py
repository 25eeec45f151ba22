"""What the shapes of an original's tensors say about the options of its network here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from models.convert.formats import Found
from models.convert.names import renamed, unused
from models.networks import redimnet2, resnet, simam_resnet
from models.options import ModelError

Shapes = Mapping[str, tuple[int, ...]]

_POOLED_FRAMES = 1536
"""Channels that ECAPA-TDNN and RawNet3 pool over time."""

_MEL_BANDS = re.compile(r"torchfb\.(1\.)?mel_scale\.fb")
"""The VoxCeleb trainer's mel filters, (lines of the spectrum, bands)."""

_TRAINERS = ("resnetse34l", "resnetse34v2")
"""Networks of the VoxCeleb trainer for any number of bands."""


def sized_options(found: Found, network: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """`given`, and besides what the file says by its shapes; nothing where its names are not of `network`.

    Raises ModelError where `given` has another number of mel bands than the file has filters, which no
    weight of some networks depends on.
    """
    if network not in _READ or found.config is not None:
        return dict(given)
    filters = [value for name, value in found.tensors.items() if _MEL_BANDS.fullmatch(name)]
    known = {"n_mels": filters[0].shape[-1]} if filters and network in _TRAINERS else {}
    if known and given.get("n_mels", known["n_mels"]) != known["n_mels"]:
        raise ModelError(f"n_mels is {given['n_mels']}, and the file's mel filters are {known['n_mels']}")
    shapes = {
        renamed(name, network, found.tensors.keys()): tuple(value.shape)
        for name, value in found.tensors.items()
        if not unused(name, network)
    }
    try:
        known |= _READ[network](shapes)
    except (LookupError, ValueError, StopIteration, ZeroDivisionError):
        return dict(given)  # another network's file: convert_weights says so
    return known | dict(given)


def _ecapa(shapes: Shapes) -> dict[str, Any]:
    channels, n_mels, _ = shapes["layer1.conv.weight"]
    return {
        "n_mels": n_mels,
        "channels": channels,
        "context": shapes["pooling.hidden.weight"][1] > _POOLED_FRAMES,
        "embedding_norm": "bn_embedding.weight" in shapes,
        "embedding_size": shapes["fc.weight"][0],
    }


def _ecapa_speechbrain(shapes: Shapes) -> dict[str, Any]:
    channels, n_mels, _ = shapes["layer1.conv.weight"]
    return {
        "n_mels": n_mels,
        "channels": channels,
        "context": shapes["pooling.hidden.conv.weight"][1] > 3 * channels,
        "embedding_size": shapes["fc.weight"][0],
    }


def _resnet(shapes: Shapes) -> dict[str, Any]:
    deep = "stages.0.0.conv3.weight" in shapes
    channels, blocks = shapes["conv1.weight"][0], _blocks(shapes)
    depths = {
        depth: of_depth for depth, of_depth in resnet.BLOCKS.items() if deep == (depth > resnet.DEEPEST_BASIC)
    }
    return _depth(depths, blocks) | {
        "n_mels": shapes["fc.weight"][1] // (2 * channels * (4 if deep else 1)),
        "channels": channels,
        "second_layer": "second.2.weight" in shapes,
        "embedding_size": shapes["fc.weight"][0],
    }


def _simam_resnet(shapes: Shapes) -> dict[str, Any]:
    channels = shapes["conv1.weight"][0]
    return _depth(simam_resnet.BLOCKS, _blocks(shapes)) | {
        "n_mels": shapes["fc.weight"][1] // (2 * channels),
        "channels": channels,
        "embedding_size": shapes["fc.weight"][0],
    }


def _campplus(shapes: Shapes) -> dict[str, Any]:
    channels, rows, _ = shapes["tdnn.weight"]
    return {
        "n_mels": rows // 4,
        "channels": channels,
        "growth": shapes["blocks.0.layers.0.conv2.weight"][0],
        "embedding_size": shapes["fc.weight"][0],
    }


def _eres2netv2(shapes: Shapes) -> dict[str, Any]:
    channels = shapes["conv1.weight"][0]
    expansion = shapes["stages.0.0.conv3.weight"][0] // channels
    part = shapes["stages.3.0.convs.0.weight"][0]
    return {
        "n_mels": shapes["fc.weight"][1] // (2 * channels * expansion),
        "channels": channels,
        "base_width": math.ceil(part * 64 / (8 * channels)),
        "scale": sum(1 for name in shapes if re.fullmatch(r"stages\.0\.0\.convs\.\d+\.weight", name)),
        "expansion": expansion,
        "second_layer": "second.2.weight" in shapes,
        "embedding_size": shapes["fc.weight"][0],
    }


def _resnetse34l(shapes: Shapes) -> dict[str, Any]:
    size, pooled = shapes["fc.weight"]
    return {
        "pooling": "asp" if pooled > shapes["pooling.weigh.attention"][0] else "sap",
        "embedding_size": size,
    }


def _resnetse34v2(shapes: Shapes) -> dict[str, Any]:
    size, pooled = shapes["fc.weight"]
    channels, frame = shapes["conv1.weight"][0], shapes["pooling.scores.0.weight"][1]
    return {
        "n_mels": frame // channels,
        "pooling": "asp" if pooled > frame else "sap",
        "channels": channels,
        "embedding_size": size,
    }


def _vggvox(shapes: Shapes) -> dict[str, Any]:
    # Without attention it is "tap" or "max", which have the same weights.
    pooling = {"pooling": "sap"} if "attention.weigh.attention" in shapes else {}
    return pooling | {"embedding_size": shapes["fc.weight"][0]}


def _rawnet3(shapes: Shapes) -> dict[str, Any]:
    return {
        "channels": shapes["block1.conv1.weight"][0],
        "pooling": "asp" if shapes["scores.3.weight"][0] == 1 else "eca",
        "context": shapes["scores.0.weight"][1] > _POOLED_FRAMES,
        "embedding_size": shapes["fc.weight"][0],
    }


def _redimnet(shapes: Shapes) -> dict[str, Any]:
    """Of wespeaker's; IDRnD's have all options in model_config."""
    theirs = {} if "bn_pooled.weight" in shapes else {"features": "kaldi", "pooled_norm": False}
    return theirs | {"embedding_size": shapes["fc.weight"][0]} if "norm.weight" in shapes else {}


def _redimnet2(shapes: Shapes) -> dict[str, Any]:
    """Of wespeaker's, which have no model_config: no two sizes begin with as many channels."""
    channels, merge = shapes["norm.weight"][0], shapes.get("merge.weight")
    size = next(size for size, of_size in redimnet2.SIZES.items() if of_size.channels == channels)
    known: dict[str, Any] = {"size": size, "pooled_channels": -1, "embedding_size": shapes["fc.weight"][0]}
    return known | ({"pooled_channels": merge[0], "pool_maps": len(merge) == 4} if merge else {})


_READ: dict[str, Callable[[Shapes], dict[str, Any]]] = {
    "campplus": _campplus,
    "ecapa_speechbrain": _ecapa_speechbrain,
    "ecapa_tdnn": _ecapa,
    "eres2netv2": _eres2netv2,
    "rawnet3": _rawnet3,
    "redimnet": _redimnet,
    "redimnet2": _redimnet2,
    "resnet": _resnet,
    "resnetse34l": _resnetse34l,
    "resnetse34v2": _resnetse34v2,
    "simam_resnet": _simam_resnet,
    "vggvox": _vggvox,
}


def _blocks(shapes: Shapes) -> tuple[int, ...]:
    """Blocks of each stage."""
    pairs = {match[0] for name in shapes if (match := re.match(r"stages\.\d+\.\d+\.", name))}
    return tuple(sum(pair.startswith(f"stages.{stage}.") for pair in pairs) for stage in range(4))


def _depth(depths: Mapping[int, tuple[int, ...]], blocks: tuple[int, ...]) -> dict[str, Any]:
    """The depth with so many blocks, or nothing."""
    return next(({"depth": depth} for depth, of_depth in depths.items() if of_depth == blocks), {})
