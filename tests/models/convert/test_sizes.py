"""Options that a file's shapes say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_recipe import FOLDER
from network_recipe import NETWORKS, original_file

from models.convert.formats import Found
from models.convert.sizes import sized_options
from models.options import ModelError
from models.registry import build_network, network_options

OF_TRAINING = {
    "vggvox": ("pooling", "log_input"),
    "rawnet3": ("summed", "log_sinc", "norm_sinc", "sinc_stride", "embedding_norm"),
    "campplus": ("features",),
    "ecapa_speechbrain": ("features",),
    "resnet": ("features",),
}
"""What no shape says."""

SIZED = [name for name, (network, _) in NETWORKS.items() if not network.startswith("redimnet")]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "networks.npz") as file:
        return {key: file[key] for key in file if key.endswith(("/file", "/order"))}


def original(name: str, golden: dict[str, np.ndarray]) -> Found:
    """The golden network's file; of its mel filters the shape alone is right."""
    network = build_network(*NETWORKS[name])
    return Found(original_file(name, golden, network.state_dict()))


@pytest.mark.parametrize("name", SIZED)
def test_shapes_say_the_options(name: str, golden: dict[str, np.ndarray]) -> None:
    network, options = NETWORKS[name]
    wanted = network_options(network, options)
    silent = {key: wanted[key] for key in OF_TRAINING.get(network, ())}
    assert network_options(network, sized_options(original(name, golden), network, silent)) == wanted


def test_sizes_of_redimnet2_without_its_arguments(golden: dict[str, np.ndarray]) -> None:
    """wespeaker's."""
    shapes = {
        "backbone.stem.1.weight": (20,),
        "backbone.head.weight": (64, 1440, 1),
        "linear.weight": (9, 8),
    }
    found = Found({name: torch.zeros(shape) for name, shape in shapes.items()})
    said = {"size": "b2", "pooled_channels": 64, "pool_maps": False, "embedding_size": 9}
    assert sized_options(found, "redimnet2", {}) == said
    of_maps = Found(found.tensors | {"backbone.head.weight": torch.zeros(64, 20, 1, 1)})
    assert sized_options(of_maps, "redimnet2", {"embedding_size": 9}) == said | {"pool_maps": True}
    assert sized_options(Found(found.tensors, config={}), "redimnet2", {}) == {}


def test_what_is_given_counts_and_other_networks_say_nothing(golden: dict[str, np.ndarray]) -> None:
    ecapa = original("ecapa", golden)
    assert sized_options(ecapa, "ecapa_tdnn", {"channels": 8})["channels"] == 8
    for network in ("resnet", "campplus", "resnetse34v2", "redimnet", "redimnet2"):
        assert sized_options(ecapa, network, {"n_mels": 16}) == {"n_mels": 16}
    assert sized_options(Found({"layer1.conv.weight": torch.zeros(())}), "ecapa_tdnn", {}) == {}


def test_mel_bands_that_no_weight_depends_on_are_those_of_the_files_filters(
    golden: dict[str, np.ndarray],
) -> None:
    with pytest.raises(ModelError, match="n_mels is 64, and the file's mel filters are 40"):
        sized_options(original("lite_sap", golden), "resnetse34l", {"n_mels": 64})
