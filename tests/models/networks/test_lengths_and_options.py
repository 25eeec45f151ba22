"""Every network: the shortest audio it takes and what lies below, silence, options that cannot be."""

from __future__ import annotations

import json

import pytest
import torch
from quick import exhaustive_but, slow_but

from models.options import ModelError
from models.registry import build_network, check_crop, least_samples, network_names

SMALL = {
    "pretrained": {
        "architecture": json.dumps(
            {
                "normalise": True,
                "config": {
                    "model_type": "wavlm",
                    "hidden_size": 16,
                    "num_hidden_layers": 2,
                    "num_attention_heads": 2,
                    "intermediate_size": 24,
                    "conv_dim": [8] * 7,
                    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
                    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
                    "num_conv_pos_embeddings": 4,
                    "num_conv_pos_embedding_groups": 2,
                },
            }
        )
    },
    "campplus": {"channels": 16, "growth": 4},
    "simam_resnet": {"channels": 4},
    "eres2netv2": {"channels": 16},
    "redimnet": {"n_mels": 24, "channels": 8, "stages": "1 1 1 12; 2 1 2 12", "group_size": 2},
    "redimnet2": {"n_mels": 24, "channels": 8, "stages": "1x1 1 2 3x3 12; 2x2 1 1 3x3 12"},
    "ecapa_speechbrain": {"channels": 16},
    "ecapa_tdnn": {"channels": 16},
    "rawnet3": {"channels": 16},
    "resnet": {"channels": 4},
    "resnetse34v2": {"channels": 8},
    "tdnn": {"channels": 16},
}


def small(name: str, **options: object) -> torch.nn.Module:
    return build_network(name, {"embedding_size": 7} | SMALL.get(name, {}) | options)


@pytest.mark.parametrize("name", slow_but(network_names(), "resnetse34l"))
def test_weights_in_channels_last_order_embed_the_same(name: str) -> None:
    """As evaluation on CPUs turns them: no network may ask in which order its maps lie."""
    torch.manual_seed(0)
    network, speech = small(name).eval(), 0.1 * torch.randn(2, 12000)
    with torch.no_grad():
        wanted = network(speech)
        found = network.to(memory_format=torch.channels_last)(speech)  # type: ignore[call-overload]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.norm()))


@pytest.mark.parametrize("name", slow_but(network_names(), "tdnn"))
def test_any_length_from_the_least(name: str) -> None:
    torch.manual_seed(0)
    network = small(name).eval()
    least = least_samples(network)
    for samples in (least, least + 1, least + 159, 2 * least):
        with torch.no_grad():
            embeddings = network(0.1 * torch.randn(2, samples))
        assert embeddings.shape == (2, 7)
        assert torch.isfinite(embeddings).all()
    with pytest.raises(ModelError, match=f"{least - 1} frames is shorter than .* {least} frames"):
        network(torch.zeros(2, least - 1))
    with pytest.raises(ModelError, match=r"shape \(4000,\)"):
        network(torch.zeros(4000))


@pytest.mark.parametrize("name", slow_but(network_names(), "tdnn"))
def test_silence_trains_without_nan(name: str) -> None:
    network = small(name)
    network(torch.zeros(3, 12000)).square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.parametrize("name", exhaustive_but(network_names(), ("resnet",), "tdnn"))
def test_bfloat16_autocast_stays_near_float32(name: str) -> None:
    torch.manual_seed(0)
    network = small(name).eval()
    audio = 0.1 * torch.randn(2, 16000)
    with torch.no_grad():
        wanted = network(audio)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = network(audio).float()
    assert torch.linalg.norm(found - wanted) <= 0.05 * torch.linalg.norm(wanted)


@pytest.mark.parametrize("name", exhaustive_but(network_names(), ("resnet",), "tdnn"))
def test_weights_follow_the_seed(name: str) -> None:
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        made.append(torch.cat([p.flatten() for p in small(name).parameters()]))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_least_is_the_least() -> None:
    """One feature frame less, and what is pooled has none, or no variance."""
    for name in ("vggvox", "rawnet3", "resnet", "ecapa_tdnn", "campplus"):
        network = small(name)
        least = least_samples(network)
        network.least_samples = 1  # type: ignore[assignment]
        network.eval()
        try:
            broken = not torch.isfinite(network(0.1 * torch.randn(1, least - 160))).all()
        except RuntimeError:
            broken = True
        assert broken, name


def test_crops_that_are_too_short_are_refused_with_what_is_enough() -> None:
    network = small("vggvox")
    with pytest.raises(
        ModelError,
        match=r"^data.crop_frames is 60: crops of 9840 samples, and VGGVox takes 9920 or more",
    ):
        check_crop(network, "data.crop_frames", 60)
    check_crop(network, "data.crop_frames", 61)


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("resnetse34v2", {"n_mels": 42}, "n_mels is 42: three strides of 2 must divide it; give 40 or 48"),
        ("resnet", {"n_mels": 42}, "give 40 or 48"),
        ("resnet", {"depth": 35}, "depth is 35; there are: 18, 34, 50, 101, 152, 221, 293"),
        ("rawnet3", {"channels": 100}, "channels is 100: blocks part them into 8; give 96 or 104"),
        ("ecapa_tdnn", {"channels": 100}, "give 96 or 104"),
        ("vggvox", {"pooling": "asp"}, "pooling"),
        ("vggvox", {"n_mels": 64}, "has no option 'n_mels'; its options: pooling, log_input, embedding_size"),
    ],
)
def test_options_that_cannot_be(name: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        build_network(name, options)
