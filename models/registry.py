"""Networks by name: one line here and one file beside this one make a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from models.networks.campplus import CAMPlusPlus
from models.networks.ecapa_speechbrain import ECAPASpeechBrain
from models.networks.ecapa_tdnn import ECAPATDNN
from models.networks.eres2netv2 import ERes2NetV2
from models.networks.pretrained import PretrainedEncoder
from models.networks.rawnet3 import RawNet3
from models.networks.redimnet import ReDimNet
from models.networks.redimnet2 import ReDimNet2
from models.networks.resnet import ResNet
from models.networks.resnetse34l import ResNetSE34L
from models.networks.resnetse34v2 import ResNetSE34V2
from models.networks.simam_resnet import SimAMResNet
from models.networks.tdnn import TDNN
from models.networks.vggvox import VGGVox
from models.options import ModelError, check_name, complete_options, describe_options, option_names_of
from models.parts.frontend import HOP, WINDOW, crop_length

__all__ = [
    "ModelError",
    "build_network",
    "check_crop",
    "describe_networks",
    "least_samples",
    "network_class",
    "network_names",
    "network_options",
    "option_names",
]

_NETWORKS: dict[str, type[nn.Module]] = {
    "campplus": CAMPlusPlus,
    "ecapa_speechbrain": ECAPASpeechBrain,
    "ecapa_tdnn": ECAPATDNN,
    "eres2netv2": ERes2NetV2,
    "pretrained": PretrainedEncoder,
    "rawnet3": RawNet3,
    "redimnet": ReDimNet,
    "redimnet2": ReDimNet2,
    "resnet": ResNet,
    "resnetse34l": ResNetSE34L,
    "resnetse34v2": ResNetSE34V2,
    "simam_resnet": SimAMResNet,
    "tdnn": TDNN,
    "vggvox": VGGVox,
}


def network_names() -> list[str]:
    """The names that `build_network` knows, sorted."""
    return sorted(_NETWORKS)


def network_class(name: str) -> type[nn.Module]:
    """The class of the network `name`, whose docstring says what it is. Raises ModelError."""
    check_name("network", name, _NETWORKS)
    return _NETWORKS[name]


def network_options(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of the network `name`: those given, checked, and the defaults of the others.

    Raises ModelError for an unknown name or option, a wrong type, or a value that is not allowed.
    """
    check_name("network", name, _NETWORKS)
    complete = complete_options(f'network "{name}"', _NETWORKS[name], options)
    # Of a network whose options mean what lies elsewhere, that too: later it may be gone or changed.
    resolve = getattr(_NETWORKS[name], "resolve", None)
    return resolve(complete) if resolve else complete


def option_names(name: str) -> list[str]:
    """The names of the options of the network `name`. Raises ModelError for an unknown one."""
    return option_names_of(network_class(name))


def describe_networks() -> dict[str, list[str]]:
    """Name → a line for each option."""
    return {name: describe_options(_NETWORKS[name]) for name in network_names()}


def build_network(name: str, options: Mapping[str, Any]) -> nn.Module:
    """A freshly initialised network.

    Its forward maps float32 (B, frames) 16 kHz audio in [-1, 1) to (B, embedding_size)
    embeddings (float32, or the autocast type), and its attribute
    `embedding_size` is an int. The weights depend on torch's random state alone,
    so `torch.manual_seed` makes them repeatable.

    options: the keyword-only arguments of the network's class; what is left out
    takes its default. Raises ModelError as network_options does.
    """
    checked = network_options(name, options)
    return _NETWORKS[name](**checked)


def least_samples(network: nn.Module) -> int:
    """Samples of the shortest audio that `network` takes."""
    return int(getattr(network, "least_samples", WINDOW))


def check_crop(network: nn.Module, key: str, feature_frames: int) -> None:
    """Raise ModelError when crops of so many feature frames, as the option `key` says, are too short."""
    samples, least = crop_length(feature_frames), least_samples(network)
    if samples < least:
        enough = feature_frames - (samples - least) // HOP
        raise ModelError(
            f"{key} is {feature_frames}: crops of {samples} samples, and {type(network).__name__} takes"
            f" {least} or more; give {enough} or more"
        )
