"""Every recipe: what it names, on how many GPUs it can run, and a step of it at a small size."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from project import REPO
from quick import exhaustive_but
from small_corpus import Corpus

from eval.checkpoint.file import read_checkpoint
from train.assembly import _build_objective
from train.augment.draw import SOURCES
from train.config.parsing import parse
from train.config.pieces import check_pieces
from train.config.sections import Config
from train.losses import build_loss
from train.plan.base import check_shared
from train.run import run

CONFIGS = REPO / "configs"
RECIPES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
PUBLISHED = [name for name in RECIPES if name not in ("demo", "tiny", "resnetse34l_aam")]
FIRST = [name for name in RECIPES if not name.endswith("_lm")]
SECOND = [name for name in RECIPES if name.endswith("_lm")]
VOXCELEB2 = 5994
# What makes each network small; the others are.
SMALL = {
    "rawnet3": "{channels: 16, embedding_size: 8}",
    "ecapa_tdnn": "{channels: 16, embedding_size: 8}",
    "resnet": "{channels: 4, embedding_size: 8}",
    "campplus": "{channels: 8, growth: 4, embedding_size: 8}",
    "redimnet2": "{channels: 4, stages: 2x1 1 1 3x3 0; 1x2 1 1 3x3 0, pooled_channels: 8, embedding_size: 8}",
    "resnetse34v2": "{channels: 8, embedding_size: 8}",
}


@cache
def recipe(name: str) -> Config:
    return parse(["--config", str(CONFIGS / f"{name}.yaml")])


@pytest.mark.parametrize("name", RECIPES)
def test_it_runs_on_1_to_16_processes(name):
    config = recipe(name)
    for world in (1, 2, 4, 8, 16):
        check_shared(config.batch.speakers, world)
        check_pieces(config, world)


@pytest.mark.parametrize("name", exhaustive_but(RECIPES, ("tiny", "resnet34", "ecapa1024")))
def test_network_and_head_can_be_built(name):
    config = recipe(name)
    network = _build_objective(config, 2).network
    with torch.device("meta"):
        head = build_loss(
            config.loss.name,
            config.loss.options,
            embedding_size=int(network.embedding_size),
            speakers=VOXCELEB2 * (1 + len(config.augment.speed)),
            utterances_per_speaker=config.batch.utterances_per_speaker,
        )
    assert all(parameter.is_meta for parameter in head.parameters())


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_says_where_it_is_from_and_that_it_was_not_measured(name):
    lines = (CONFIGS / f"{name}.yaml").read_text().partition("run:")[0].splitlines()
    head = " ".join(line.lstrip("# ") for line in lines)
    assert re.search(r"(Interspeech|ICASSP|CVPR) 20\d\d", head)
    assert "VoxCeleb1-O" in head
    assert re.search(r"[Nn]ot re-measured here|none was measured here", head)
    assert f"[{name}.yaml]({name}.yaml)" in (CONFIGS / "README.md").read_text()


@pytest.mark.parametrize("name", SECOND)
def test_a_second_stage_begins_with_its_first(name):
    second = recipe(name)
    first = recipe(name.removesuffix("_lm"))
    assert second.init.from_ == first.run.folder
    assert first.checkpoint.keep >= (second.init.average or 1)
    assert (second.model, second.loss.name) == (first.model, first.loss.name)
    assert second.data.crop_frames > first.data.crop_frames
    assert second.loss.options["margin"] > first.loss.options["margin"]
    assert not second.augment.speed


@pytest.fixture
def quiet() -> Iterator[None]:
    """What a run in this process changes of logging and threads is put back."""
    before, threads = logging.getLogger("train").handlers[:], torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    logging.getLogger("train").handlers[:] = before
    torch.set_num_threads(threads)


def one_step(name: str, corpus: Corpus, folder: Path, *more: str) -> Path:
    """Train for a step with everything that the recipe says but its sizes and places; the run's folder."""
    given = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    words = ["--config", str(CONFIGS / f"{name}.yaml"), "--run.folder", str(folder / name)]
    words += ["--data.url", corpus.wav, "--data.workers", "0", "--data.crop_frames", "24"]
    words += ["--batch.speakers", "4", "--validation.trials", "null", "--validation.data", "null"]
    words += ["--train.steps", "1", "--train.device", "cpu", "--train.log_every", "1"]
    for source in SOURCES:
        if source in given.get("augment", {}):
            place = corpus.rooms if source == "reverberation" else corpus.noise
            words += [f"--augment.{source}.url", place]
            words += [f"--augment.{source}.category", "rooms" if source == "reverberation" else "noise"]
    # A step is less than what grows for epochs may take.
    if "warm_up" in given.get("schedule", {}).get("options", {}):
        words.append("--schedule.options.warm_up=0.01")
    if "margin_ends" in given["loss"].get("options", {}):
        words += ["--loss.options.margin_begins=0", "--loss.options.margin_ends=0.01"]
    if given["train"].get("norm_rows"):
        words += [
            "--train.norm_rows",
            "2",
            "--train.accumulate",
            str(min(2, given["train"].get("accumulate", 1))),
        ]
    if given["model"]["name"] in SMALL:
        words += ["--train.channels_last", "false"]  # so few channels are refused
        for option, value in yaml.safe_load(SMALL[given["model"]["name"]]).items():
            words.append(f"--model.options.{option}={value}")
    assert run(parse([*words, *more]))
    return folder / name


@pytest.mark.parametrize(
    "name", exhaustive_but(FIRST, ("resnet34", "rawnet3_aam", "resnetse34l_angleproto"), "tiny")
)
def test_a_step_of_it(name, corpus, tmp_path, quiet):
    folder = one_step(name, corpus, tmp_path)
    assert read_checkpoint(str(folder / "checkpoints/step-00000001.pt"))["optimizer"]["state"]
    if f"{name}_lm" not in SECOND:
        return
    second = one_step(
        f"{name}_lm", corpus, tmp_path, "--run.seed", "1", "--init.from", str(folder), "--init.average", "1"
    )
    begun, ended = (
        read_checkpoint(str(path))
        for path in (second / "checkpoints/step-00000000.pt", folder / "checkpoints/step-00000001.pt")
    )
    assert all(torch.equal(begun["network"][key], value) for key, value in ended["network"].items())
    assert torch.equal(begun["loss"]["weight"], ended["loss"]["weight"][: ended["speakers"] // 3])
