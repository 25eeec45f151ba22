"""Files of the originals, with the names that they have there, become our networks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from golden_recipe import FOLDER
from network_recipe import NETWORKS, ONE_OF_EACH, audio_input, fill_learnt, original_file
from quick import exhaustive_but

from models.convert.convert import best_fit, convert_weights
from models.convert.formats import Found, find_tensors
from models.convert.names import RULES
from models.convert.redim_config import redim_network, redim_options
from models.options import ModelError
from models.registry import build_network, network_names, network_options


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "networks.npz") as file:
        return dict(file)


def saved(name: str, golden: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    network = build_network(*NETWORKS[name])
    fill_learnt(network.state_dict().items())
    return original_file(name, golden, network.state_dict())


@pytest.mark.parametrize("name", exhaustive_but(NETWORKS, ONE_OF_EACH, "redimnet2", "ecapa_plain"))
def test_a_converted_network_embeds_audio_as_the_original(name: str, golden: dict[str, np.ndarray]) -> None:
    """The originals' outputs were recorded from audio, by their own front-ends or torchaudio's of Kaldi."""
    network_name, options = NETWORKS[name]
    converted = convert_weights(Found(saved(name, golden)), network_name, options)
    network = build_network(network_name, options).eval()
    network.load_state_dict(converted.weights)
    with torch.no_grad():
        found = network(audio_input()).numpy()
    wanted = golden[f"{name}/from_audio"]
    assert np.linalg.norm(found - wanted) <= 1e-4 * np.linalg.norm(wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("redimnet")])
def test_redimnets_arguments_are_our_options(name: str, golden: dict[str, np.ndarray]) -> None:
    network, options = NETWORKS[name]
    config = json.loads(str(golden[f"{name}/config"]))
    assert redim_network(config) == network
    found = network_options(network, redim_options(config))
    without_weights = ("features", "unit_audio", "hop_length", "pool_maps")
    assert [found.get(key) for key in without_weights] == [
        network_options(network, options).get(key) for key in without_weights
    ]
    made, wanted = build_network(network, found), build_network(network, options)
    shapes = [{key: value.shape for key, value in one.state_dict().items()} for one in (made, wanted)]
    assert shapes[0] == shapes[1]
    convert_weights(Found(saved(name, golden), config=config), network, found)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pooling_func": "TSTP"}, "pooling_func is 'TSTP', and the redimnet here knows 'ASTP' alone"),
        ({"feat_type": "tf_spec"}, "feat_type is 'tf_spec'; here there are: pt, "),
        ({"spec_params": {"spec_norm": "bn"}}, "spec_params: spec_norm is 'bn', here it is 'mn'"),
        ({"block_2d_type": "gru"}, "block_2d_type is 'gru'; here there are: basic_resnet, "),
        ({"spec_params": {"f_max": 8000}}, "spec_params: f_max is 8000, here it is 7600"),
        ({"novelty": 1}, "the redimnet here has nothing like novelty"),
        ({"stages_setup": [(1, 2)]}, r"stages_setup: number 1 is '\(1, 2\)'"),
        ({"stages_setup": None}, "has no stages_setup"),
    ],
)
def test_arguments_that_are_not_built_here_are_named(changed: dict[str, Any], message: str) -> None:
    config = {"F": 12, "C": 4, "stages_setup": [(1, 1, 1, [(3, 3)], 6)], "num_classes": 5}
    redim_options(config)
    with pytest.raises(ModelError, match=message):
        redim_options(config | changed)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_best_fit_of_a_file_is_its_network(golden: dict[str, np.ndarray]) -> None:
    """Of default networks, whose depth may be another; here those that are most alike, two by two."""
    for name in ("lite_sap", "v2_asp", "simam34", "resnet34"):
        best, share = best_fit(Found(saved(name, golden)))
        assert (best, share > 90) == (NETWORKS[name][0], True), name


def test_every_network_with_an_original_can_be_converted() -> None:
    assert set(network_names()) - set(RULES) == {"pretrained", "tdnn"}
    with pytest.raises(ModelError, match="network 'tdnn' has no original; there are: campplus, "):
        convert_weights(Found({}), "tdnn", {})


@pytest.mark.slow
def test_what_does_not_fit_is_named_with_the_network_that_would(golden: dict[str, np.ndarray]) -> None:
    ecapa = Found(saved("ecapa", golden))
    with pytest.raises(
        ModelError,
        match=r"tensors do not fit: conv1\.weight \[32, 1, 3, 3\] is not in the file.*"
        r"ecapa_tdnn would fit best: 100 % of the names are its own",
    ):
        convert_weights(ecapa, "resnet", {})
    with pytest.raises(
        ModelError,
        match=r"layer1\.conv\.weight is \[64, 80, 5\] in the file and \[512, 80, 5\] in the"
        r" network.*The names are ecapa_tdnn's: look at its options",
    ):
        convert_weights(ecapa, "ecapa_tdnn", {})
    fewer = Found({name: value for name, value in ecapa.tensors.items() if not name.startswith("linear.")})
    with pytest.raises(ModelError, match=r"99 % of the names are ecapa_tdnn's: it is a relative that is not"):
        convert_weights(fewer, *NETWORKS["ecapa"])
    with pytest.raises(ModelError, match=r"No network here has such names$"):
        convert_weights(Found({"a.weight": torch.zeros(1)}), "resnet", {})


@pytest.mark.slow
def test_weights_that_diverged_are_refused_and_halves_become_whole(golden: dict[str, np.ndarray]) -> None:
    tensors = saved("ecapa", golden)
    halved = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
    weights = convert_weights(Found(halved), *NETWORKS["ecapa"]).weights
    assert weights["fc.weight"].dtype is torch.float32
    with pytest.raises(ModelError, match=r"NaN or infinity, first in 'fc\.bias'"):
        convert_weights(Found(tensors | {"linear.bias": torch.full((24,), torch.nan)}), *NETWORKS["ecapa"])


def test_counters_of_batches_may_be_averages_or_missing(golden: dict[str, np.ndarray]) -> None:
    """wespeaker's average_model.py divides them as it divides weights."""
    tensors = saved("ecapa", golden)
    counters = [name for name in tensors if name.endswith("num_batches_tracked")]
    averages = {name: torch.tensor(12345.5) for name in counters}
    weights = convert_weights(Found(tensors | averages), *NETWORKS["ecapa"]).weights
    counted = weights["bn_pooled.num_batches_tracked"]
    assert (len(counters), counted.dtype, int(counted)) == (29, torch.int64, 12345)
    without = {name: value for name, value in tensors.items() if name not in counters}
    weights = convert_weights(Found(without), *NETWORKS["ecapa"]).weights
    assert int(weights["bn_pooled.num_batches_tracked"]) == 0


@pytest.mark.slow
def test_a_head_and_a_front_end_are_left_out_and_said(golden: dict[str, np.ndarray]) -> None:
    tensors = saved("v2_asp", golden) | {"projection.weight": torch.zeros(5, 24)}
    left_out = convert_weights(find_tensors(tensors), *NETWORKS["v2_asp"]).left_out
    assert left_out == [
        "torchfb.0.flipped_filter",
        "torchfb.1.spectrogram.window",
        "torchfb.1.mel_scale.fb",
        "projection.weight",
    ]
