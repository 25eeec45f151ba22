"""A run upon a pretrained encoder: what is frozen stays, and it goes on without the encoder's folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from small_corpus import Corpus
from small_run import config

from eval.checkpoint.file import load_network, read_checkpoint
from train.config.parsing import parse
from train.run import run


def encoder(folder: Path) -> Path:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    made = transformers.Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=[8] * 7,
        num_feat_extract_layers=7,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2Model(made).save_pretrained(folder)
    return folder


@pytest.fixture
def quiet() -> Iterator[None]:
    """What a run in this process changes of logging and threads is put back."""
    before, threads = logging.getLogger("train").handlers[:], torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    logging.getLogger("train").handlers[:] = before
    torch.set_num_threads(threads)


def train(path: Path, folder: Path, steps: int) -> str:
    """In this process, which has loaded transformers already; the run's log."""
    words = ["--run.folder", str(folder), "--train.steps", str(steps), "--train.device", "cpu"]
    assert run(parse(["--config", str(path), *words]))
    return (folder / "log.txt").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
def test_a_frozen_encoder_stays_and_is_not_needed_again(corpus: Corpus, tmp_path: Path) -> None:
    folder, kept_in = encoder(tmp_path / "encoder"), tmp_path / "run"
    path = config(corpus, tmp_path / "config.yaml")
    given = yaml.safe_load(path.read_text())
    given["model"] = {"name": "pretrained", "options": {"encoder": str(folder), "embedding_size": 8}}
    given["optim"] = {"rates": {"network.fc": 0.5}}
    path.write_text(yaml.safe_dump(given))
    assert "resuming from" not in train(path, kept_in, 2)
    before = read_checkpoint(str(kept_in / "checkpoints/step-00000002.pt"))
    kept = yaml.safe_load((kept_in / "config.yaml").read_text())["model"]["options"]
    assert json.loads(kept["architecture"].removeprefix("json:"))["config"]["model_type"] == "wav2vec2"

    given["model"]["options"] = kept
    path.write_text(yaml.safe_dump(given))
    folder.rename(tmp_path / "gone")
    assert "resuming from" in train(path, kept_in, 4)
    after = read_checkpoint(str(kept_in / "checkpoints/step-00000004.pt"))
    for name, value in after["network"].items():
        frozen = name.startswith("encoder.")
        if frozen or name in ("fc.weight", "layers"):
            assert torch.equal(value, before["network"][name]) == frozen, name
    moved = len([name for name in after["network"] if not name.startswith("encoder.")])
    assert len(after["optimizer"]["state"]) < moved  # buffers and what is frozen have no moments
    load_network(after, "cpu")
