"""The configuration: what wins, what is refused, and by which words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from shard_tools.errors import UserError
from train.config import parse
from train.plan.base import check_shared

REQUIRED = ["--data.url", "shards", "--train.steps", "10"]


def test_the_command_line_wins_over_yaml_which_wins_over_defaults(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data: {url: there, workers: 7}\ntrain: {epochs: 3}\nmodel: {options: {n_mels: 64}}\n")
    config, _ = parse(["--config", str(file), "--data.workers", "1", "--model.options.pooling", "asp"])
    assert (config.data.url, config.data.workers, config.data.prefetch) == ("there", 1, 4)
    assert config.model.options == {"n_mels": 64, "pooling": "asp"}
    assert config.augment.music.snr == (5.0, 15.0)


def test_the_text_is_complete_and_reads_back_as_the_same_run(tmp_path):
    config, text = parse(
        [*REQUIRED, "--augment.noise.url", "s3://bucket/noise", "--augment.noise.snr", "[3, 9]"]
    )
    file = tmp_path / "again.yaml"
    file.write_text(text)
    again, same_text = parse(["--config", str(file)])
    assert again == config
    assert same_text == text
    written = yaml.safe_load(text)
    assert written["checkpoint"] == {"url": None, "every": 1000, "keep": 3}
    assert written["batch"]["max_utterances_per_speaker"] == 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data.wrkers", "3"], ["data.wrkers"]),
        (["--data.workers", "three"], ["data.workers", "three"]),
        (["--schedule.unit", "hours"], ["schedule.unit", "hours"]),
        (["--augment.noise.snr", "[1]"], ["augment.noise.snr"]),
        (["--train.compile", "perhaps"], ["train.compile", "perhaps"]),
    ],
)
def test_unknown_and_ill_typed_keys_are_named(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse([*REQUIRED, *arguments])
    assert stop.value.code == 2
    message = capsys.readouterr().err.splitlines()
    shown = " ".join(message[next(i for i, line in enumerate(message) if line.startswith("error:")) :])
    for word in words:
        assert word in shown


def test_an_unknown_key_in_yaml_is_named(tmp_path, capsys):
    file = tmp_path / "run.yaml"
    file.write_text("data: {url: x, wrkers: 2}\n")
    with pytest.raises(SystemExit):
        parse(["--config", str(file)])
    assert "wrkers" in capsys.readouterr().err


def test_a_missing_url_is_named(capsys):
    with pytest.raises(SystemExit):
        parse(["--train.steps", "1"])
    assert "data.url" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--run.folder", "s3://b/run"],
            r"run.folder is s3://b/run; .* \(checkpoint.url s3://b/run/checkpoints\)",
        ),
        (["--run.folder", "file:///run"], "it must be a path of a file system"),
        (["--data.crop_frames", "0"], r"data\.crop_frames is 0; it must be at least 1"),
        (["--run.seed", "-1"], r"run\.seed is -1"),
        (["--optim.lr", "0"], r"optim\.lr is 0"),
        (["--train.epochs", "2"], r"train\.steps is 10 and train\.epochs is 2: give exactly one"),
        (["--validation.trials", "x"], r"validation\.data is not set"),
        (["--augment.noise.snr", "[9, 3]"], r"augment\.noise\.snr is \[9\.0, 3\.0\]"),
        (["--augment.babble.clips", "[0, 3]"], r"augment\.babble\.clips is \[0, 3\]"),
        (["--augment.music.weight", "-1"], r"augment\.music\.weight is -1"),
        (["--augment.none.weight", "0"], r"augment\.none\.weight"),
        (["--batch.max_utterances_per_speaker", "0"], r"max_utterances_per_speaker is 0"),
        (
            ["--batch.leftover", "rollover", "--data.order", "windows"],
            r"batch\.leftover is rollover, and data\.order is windows: .* set batch\.leftover drop, or",
        ),
        (
            ["--batch.leftover", "rollover", "--data.access", "cached", "--data.cache.folder", "x"],
            r"data\.order is auto, which means windows for data\.access cached",
        ),
    ],
)
def test_values_that_no_run_can_use_are_named_with_a_remedy(arguments, message):
    with pytest.raises(UserError, match=message):
        parse([*REQUIRED, *arguments])


RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.stem)
def test_every_recipe_can_be_shared_by_1_to_16_processes(recipe):
    config, _ = parse(["--config", str(recipe)])
    for world in (1, 2, 4, 8, 16):
        check_shared(config.batch.speakers, world)


@pytest.fixture
def checkable(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    return ["--data.url", str(tmp_path), "--train.steps", "10", "--batch.speakers", "208"]


def test_check_says_nothing_of_a_run_that_can_start(checkable, capsys):
    with pytest.raises(SystemExit) as ended:
        parse([*checkable, "--check", "16"])
    assert ended.value.code == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--batch.speakers", "200"],
            "batch.speakers 200 cannot be shared by 16 processes: set it to 192 or 208",
        ),
        (["--data.order", "windows"], "data.windows.lanes 1 cannot be shared by 16 processes: set it to 16"),
        (["--data.url", "nowhere"], "data.url is nowhere, and there is no manifest.json in that folder"),
        (["--augment.noise.url", "no"], "augment.noise.url is no, and there is no manifest.json"),
        (["--validation.trials", "gone", "--validation.data", "."], "validation.trials is gone"),
        (["--model.options", "{n_mel: 3}"], "has no option 'n_mel'"),
        (["--loss.name", "angleproto"], "utterances"),
    ],
)
def test_check_names_what_a_run_would_fail_at(checkable, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse([*checkable, *arguments, "--check", "16"])


def test_paths_lead_where_a_shell_would_take_them(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch")
    config, text = parse([*REQUIRED, "--run.folder=~/run", "--augment.noise.url", "$SCRATCH/noise"])
    assert (config.run.folder, config.augment.noise.url) == ("/home/me/run", "/scratch/noise")
    assert "~" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run.folder", "s3://bucket/run"], "checkpoint.url"),
        (["--data.cache.folder", ""], "data.cache.folder is empty"),
        (
            ["--checkpoint.url", "$ABSENT_HERE/x"],
            "checkpoint.url is $ABSENT_HERE/x: the environment variable",
        ),
        (["--train.epochs", "3"], "give exactly one"),
        (["--data.workers", "100000"], "data.workers is 100000; it must be at most 256"),
        (["--validation.crops", "100000000"], "validation.crops is 100000000; it must be at most 1000"),
        (["--optim.weight_decay", "-1"], "optim.weight_decay is -1.0; it must not be negative"),
    ],
)
def test_places_and_lengths_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse([*REQUIRED, *arguments])


def test_a_typed_length_replaces_the_recipes_in_the_other_unit(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data: {url: there}\ntrain: {epochs: 3}\n")
    config, _ = parse(["--config", str(file), "--train.steps", "60"])
    assert (config.train.steps, config.train.epochs) == (60, None)


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        parse(["--version"])
    assert capsys.readouterr().out.startswith("voxshard ")
