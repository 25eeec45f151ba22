"""A run with crops of varying length, over a telephone: interrupted, it goes on to the same weights."""

from __future__ import annotations

import pytest
import torch

from eval.checkpoint.file import read_checkpoint
from train.config.parsing import parse
from train.run import run

pytestmark = pytest.mark.slow


def options(corpus, folder, steps):
    return [
        "--data.url", corpus.wav, "--run.folder", str(folder), "--train.device", "cpu", "--data.workers", "1",
        "--data.crop_frames", "[40, 60]", "--batch.speakers", "8", "--model.name", "tdnn",
        "--loss.name", "softmax", "--augment.noise.url", corpus.noise, "--train.steps", str(steps),
        "--augment.reverberation.url", corpus.rooms, "--augment.telephone.probability", "0.5",
        "--schedule.options.unit", "steps",
    ]  # fmt: skip


def test_resuming_ends_in_the_same_weights(corpus, tmp_path):
    assert run(parse(options(corpus, tmp_path / "whole", 5)))
    for steps in (2, 5):
        assert run(parse(options(corpus, tmp_path / "parts", steps)))
    ends = [tmp_path / name / "checkpoints/step-00000005.pt" for name in ("whole", "parts")]
    one, two = (read_checkpoint(str(end)) for end in ends)
    assert one["config"]["data"]["crop_frames"] == [40, 60]
    for name, tensor in one["network"].items():
        assert torch.equal(tensor, two["network"][name]), name
