"""A run upon a pretrained encoder: what is frozen stays, and it goes on without the encoder's folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml
from processes import finish
from small_corpus import Corpus
from small_run import config

from eval.checkpoint.file import load_network, read_checkpoint

transformers = pytest.importorskip("transformers")


def encoder(folder: Path) -> Path:
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


def train(path: Path, run: Path, steps: int, out: Path) -> str:
    words = ("--run.folder", str(run), "--train.steps", str(steps))
    status, output = finish([sys.executable, "-m", "train", "--config", str(path), *words], out)
    assert status == 0, output
    return output


@pytest.mark.slow
def test_a_frozen_encoder_stays_and_is_not_needed_again(corpus: Corpus, tmp_path: Path) -> None:
    folder, run = encoder(tmp_path / "encoder"), tmp_path / "run"
    path = config(corpus, tmp_path / "config.yaml")
    given = yaml.safe_load(path.read_text())
    given["model"] = {"name": "pretrained", "options": {"encoder": str(folder), "embedding_size": 8}}
    given["optim"] = {"rates": {"network.fc": 0.5}}
    path.write_text(yaml.safe_dump(given))
    train(path, run, 2, tmp_path / "first")
    before = read_checkpoint(str(run / "checkpoints/step-00000002.pt"))
    kept = yaml.safe_load((run / "config.yaml").read_text())["model"]["options"]
    assert json.loads(kept["architecture"].removeprefix("json:"))["config"]["model_type"] == "wav2vec2"

    given["model"]["options"] = kept
    path.write_text(yaml.safe_dump(given))
    folder.rename(tmp_path / "gone")
    assert "resuming from" in train(path, run, 4, tmp_path / "second")
    after = read_checkpoint(str(run / "checkpoints/step-00000004.pt"))
    for name, value in after["network"].items():
        frozen = name.startswith("encoder.")
        if frozen or name in ("fc.weight", "layers"):
            assert torch.equal(value, before["network"][name]) == frozen, name
    moved = len([name for name in after["network"] if not name.startswith("encoder.")])
    assert len(after["optimizer"]["state"]) < moved  # buffers and what is frozen have no moments
    load_network(after, "cpu")
