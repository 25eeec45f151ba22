"""Pretrained encoders from a folder, with tiny random ones of the same classes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.options import ModelError, weights_follow
from models.registry import build_network, least_samples, network_options

pytestmark = [
    pytest.mark.slow,  # loading it takes longer than most of them
    pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed"),
]

CONVOLUTIONS = {"conv_dim": [8] * 7, "num_feat_extract_layers": 7}
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
KINDS = {
    "wavlm": ("WavLM", SMALL | CONVOLUTIONS | {"num_buckets": 8, "max_bucket_distance": 16}),
    "wav2vec2": (
        "Wav2Vec2",
        SMALL | CONVOLUTIONS | {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    ),
    "hubert": ("Hubert", SMALL | CONVOLUTIONS),
    "wav2vec2-bert": ("Wav2Vec2Bert", BERT | {"feature_projection_input_dim": 160}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each kind as save_pretrained leaves it."""
    import transformers

    made = {}
    for kind, (name, options) in KINDS.items():
        torch.manual_seed(0)
        made[kind] = tmp_path_factory.mktemp(kind)
        config = getattr(transformers, f"{name}Config")(**options)
        getattr(transformers, f"{name}Model")(config).save_pretrained(made[kind])
        if kind == "wavlm":
            (made[kind] / "preprocessor_config.json").write_text('{"do_normalize": false}')
    return made


def build(folder: Path, **options: Any) -> torch.nn.Module:
    torch.manual_seed(1)
    return build_network("pretrained", {"encoder": str(folder), "embedding_size": 8} | options)


def audio(samples: int = 9600) -> torch.Tensor:
    return 0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0))


def layers_of(kind: str, folder: Path, values: torch.Tensor) -> list[torch.Tensor]:
    """What transformers' own feature extractor and class give."""
    import transformers

    model = transformers.AutoModel.from_pretrained(folder).eval()
    if kind == "wav2vec2-bert":
        extractor = transformers.SeamlessM4TFeatureExtractor()
        given = extractor([row.numpy() for row in values], sampling_rate=16000, return_tensors="pt")
    else:
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=kind != "wavlm")
        given = extractor([row.numpy() for row in values], sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        found = model(**given, output_hidden_states=True)
    return [*found.hidden_states[:-1], found.last_hidden_state]


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_those_of_transformers(kind: str, folders: dict[str, Path]) -> None:
    network = build(folders[kind]).eval()
    values = audio(16240)  # of w2v-BERT's features an even number, which need no padding
    with torch.no_grad():
        found = network._layers(values)
    wanted = layers_of(kind, folders[kind], values)
    assert len(found) == len(wanted) == len(network.layers)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_trained_is_what_was_asked_for(kind: str, folders: dict[str, Path]) -> None:
    for trained, some, all_of_it in (("frozen", False, False), ("lora", True, False), ("all", True, True)):
        network = build(folders[kind], trained=trained).train()
        network(audio()).square().sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.requires_grad}
        assert [name for name, gradient in gradients.items() if gradient is None] == [], trained
        of_encoder = [name for name in gradients if name.startswith("encoder.")]
        assert bool(of_encoder) == some
        assert all("lora_" in name for name in of_encoder) == (not all_of_it)
        assert network.fc.weight.grad is not None


@pytest.mark.parametrize("kind", KINDS)
def test_every_adapter_is_heard(kind: str, folders: dict[str, Path]) -> None:
    """Each changes the embedding: none lies around weights that the encoder hands to a function."""
    network = build(folders[kind], trained="lora", lora_rank=2).eval()
    adapters = [(name, p) for name, p in network.named_parameters() if "lora_B" in name]
    assert adapters
    with torch.no_grad():
        before = network(audio())
        for name, parameter in adapters:
            parameter.fill_(0.5)
            assert not torch.equal(network(audio()), before), name
            parameter.zero_()
        assert torch.equal(network(audio()), before)


@pytest.mark.parametrize("kind", KINDS)
def test_training_hangs_on_no_random_numbers(kind: str, folders: dict[str, Path]) -> None:
    network = build(folders[kind], trained="all").train()
    # transformers draws some that it does not heed, one release more, another fewer.
    results = []
    for seed in range(3):
        torch.manual_seed(seed)
        results.append(network(audio()))
    assert all(torch.equal(result, results[0]) for result in results)
    assert not network.encoder.training


@pytest.mark.parametrize("kind", KINDS)
def test_the_least_is_two_frames(kind: str, folders: dict[str, Path]) -> None:
    network = build(folders[kind]).eval()
    least = least_samples(network)
    with torch.no_grad():
        assert torch.isfinite(network(audio(least))).all()
        hidden = network.encoder(network.frontend(audio(least))).last_hidden_state
        assert hidden.shape[1] == 2
    with pytest.raises(ModelError, match=f"shorter than the least that this network takes, {least} frames"):
        network(audio(least - 1))


def test_a_checkpoint_needs_the_folder_no_more(folders: dict[str, Path], tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    folders["wavlm"].rename(gone)
    try:
        options = network_options("pretrained", {"encoder": str(gone), "embedding_size": 8})
        network = build_network("pretrained", options).eval()
    finally:
        gone.rename(folders["wavlm"])
    assert json.loads(options["architecture"].removeprefix("json:"))["config"]["model_type"] == "wavlm"
    with pytest.raises(ModelError, match="its weights cannot be read"):
        build_network("pretrained", options)
    with weights_follow():
        again = build_network("pretrained", options)
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(audio()), network(audio()))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there is no config.json in that folder"),
        ({"config.json": "{"}, "config.json cannot be read as JSON"),
        ({"config.json": "[]"}, "config.json holds no mapping"),
        (
            {"config.json": '{"model_type": "bert"}'},
            "is of the kind 'bert'; there are: wavlm, wav2vec2",
        ),
        ({"config.json": '{"model_type": "wavlm", "hidden_size": 8}'}, "lacks num_hidden_layers"),
    ],
)
def test_folders_that_hold_something_else(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelError, match=message):
        build(tmp_path)


def test_weights_of_another_size_or_none(folders: dict[str, Path], tmp_path: Path) -> None:
    config = json.loads((folders["hubert"] / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="its weights cannot be read"):
        build(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((folders["hubert"] / "model.safetensors").read_bytes())
    build(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(
        ModelError, match=r"its weights lack \d+ of the tensors of its config.json, first 'encoder\."
    ):
        build(tmp_path)


def test_a_name_without_a_network_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(
        ModelError,
        match="is no folder here, and the hub does not give its config",
    ):
        build_network("pretrained", {"encoder": "nobody/none"})


def test_no_encoder_at_all() -> None:
    with pytest.raises(ModelError, match="encoder is empty: give a folder"):
        build_network("pretrained", {})
    with pytest.raises(ModelError, match="architecture is not what this network writes there"):
        build_network("pretrained", {"architecture": "{}"})


def test_features_of_w2v_bert(folders: dict[str, Path]) -> None:
    import transformers

    network = build(folders["wav2vec2-bert"])
    values = audio(16240)
    extractor = transformers.SeamlessM4TFeatureExtractor()
    given = extractor([row.numpy() for row in values], sampling_rate=16000, return_tensors="np")
    found = network.frontend(values).numpy()
    np.testing.assert_allclose(found, given["input_features"], rtol=0, atol=2e-3)


def test_it_can_be_compiled_around_the_encoder(folders: dict[str, Path]) -> None:
    plain, compiled = build(folders["wavlm"]).eval(), build(folders["wavlm"]).eval()
    compiled.load_state_dict(plain.state_dict())
    compiled.compile(backend="eager")
    torch.testing.assert_close(compiled(audio()), plain(audio()))
    torch.compiler.reset()
