"""The configuration: what wins, what is refused, and by which words."""

from __future__ import annotations

import math
import re
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, get_origin, get_type_hints

import pytest
import yaml

from models.options import ModelError, Within
from models.registry import build_network, network_names, network_options
from shard_tools.errors import UserError
from train.config.kept import as_yaml, kept_config
from train.config.parsing import parse
from train.config.sections import Config, ScheduleConfig
from train.losses import build_loss, loss_names, loss_options

REQUIRED = ["--data.url", "shards", "--train.steps", "10"]


def test_the_command_line_wins_over_yaml_which_wins_over_defaults(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data: {url: there, workers: 7}\ntrain: {epochs: 3}\nmodel: {options: {n_mels: 64}}\n")
    config = parse(["--config", str(file), "--data.workers", "1", "--model.options.pooling", "asp"])
    assert (config.data.url, config.data.workers, config.data.prefetch) == ("there", 1, 4)
    options = network_options("resnetse34l", {"n_mels": 64, "pooling": "asp"})
    assert config.model.options == options
    assert config.augment.music.snr == (5.0, 15.0)


def test_the_text_is_complete_and_reads_back_as_the_same_run(tmp_path):
    config = parse([*REQUIRED, "--augment.noise.url", "s3://bucket/noise", "--augment.noise.snr", "[3, 9]"])
    file = tmp_path / "again.yaml"
    file.write_text(as_yaml(config))
    again = parse(["--config", str(file)])
    assert again == config
    assert as_yaml(again) == as_yaml(config)
    written = yaml.safe_load(as_yaml(config))
    assert written == kept_config(config)
    assert written["data"]["order"] == "epoch"
    assert written["loss"]["options"] == loss_options("aamsoftmax", {})
    assert written["schedule"] == {"name": "step", "options": {"gamma": 0.95, "every": 10, "unit": "epochs"}}
    assert written["checkpoint"] == {"url": None, "every": 1000, "keep": 3, "background": True}
    assert written["batch"]["max_utterances_per_speaker"] == 500


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data.wrkers", "3"], ["data.wrkers"]),
        (["--data.workers", "three"], ["data.workers", "three"]),
        (["--augment.noise.snr", "[1]"], ["augment.noise.snr"]),
        (
            ["--data.crop_frames", "[1, 2, 3]"],
            ["data.crop_frames: must be one whole number or two", "[1, 2, 3]"],
        ),
        (["--train.compile", "perhaps"], ["train.compile", "perhaps"]),
    ],
)
def test_unknown_and_ill_typed_keys_are_named(arguments, words, capsys):
    with pytest.raises(SystemExit) as stop:
        parse([*REQUIRED, *arguments])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train: error: ")
    for word in words:
        assert word in line


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
        (["--data.crop_frames", "0"], r"data\.crop_frames is 0; it must be from 1 to 10000"),
        (["--data.crop_frames", "[200, 20000]"], r"crop_frames is \[200, 20000\]; each number in it must be"),
        (
            ["--data.crop_frames", "[300, 200]"],
            r"crop_frames is \[300, 200\]; the shorter length comes first",
        ),
        (
            ["--data.crop_frames", "[200, 300]", "--train.compile", "true"],
            r"train\.compile is true, and data\.crop_frames is \[200, 300\]: .*; set train\.compile false",
        ),
        (["--run.seed", "-1"], r"run\.seed is -1"),
        (["--optim.lr", "0"], r"optim\.lr is 0"),
        (
            ["--loss.sharded", "true", "--loss.name", "angleproto"],
            r'^loss\.sharded is true, and loss "angleproto" has no head .* take one of aamsoftmax, ',
        ),
        (["--train.epochs", "2"], r"train\.steps is 10 and train\.epochs is 2: give exactly one"),
        (["--validation.trials", "x"], r"validation\.data is not set"),
        (["--augment.noise.snr", "[9, 3]"], r"augment\.noise\.snr is \[9\.0, 3\.0\]"),
        (["--augment.babble.clips", "[0, 3]"], r"augment\.babble\.clips is \[0, 3\]"),
        (["--augment.music.weight", "-1"], r"augment\.music\.weight is -1"),
        (["--augment.none.weight", "0"], r"augment\.none\.weight"),
        (
            ["--augment.telephone.probability", "1.5"],
            r"telephone\.probability is 1\.5; it must be from 0 to 1",
        ),
        (["--augment.telephone.laws", "[]"], r"telephone\.laws is \[\]; give mulaw, alaw or both"),
        (["--augment.telephone.laws", "[alaw, alaw]"], r"telephone\.laws is \[alaw, alaw\]"),
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


def test_paths_lead_where_a_shell_would_take_them(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch")
    config = parse([*REQUIRED, "--run.folder=~/run", "--augment.noise.url", "$SCRATCH/noise"])
    assert (config.run.folder, config.augment.noise.url) == ("/home/me/run", "/scratch/noise")
    assert "~" not in as_yaml(config)


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
        (["--schedule.options.unit", "hours"], "option 'unit' is 'hours', it must be one of: epochs, steps"),
        (
            ["--schedule.name", "cosinus"],
            "schedule: unknown schedule 'cosinus'; there are: cosine, exponential, step",
        ),
        (["--optim.name", "adamx"], "optim: unknown optimizer 'adamx'; there are: adam, adamw, sgd"),
        (["--optim.options.beta3", "0.1"], "optimizer \"adam\" has no option 'beta3'; its options: beta1,"),
        (
            ["--optim.name", "sgd", "--optim.options", "{momentum: 0, nesterov: true}"],
            "'nesterov' is True, and momentum is 0",
        ),
        (["--optim.rates", "{network: -1}"], "optim.rates is {'network': -1.0}; each number in it must be"),
        (["--data.workers", "100000"], "data.workers is 100000; it must be from 0 to 256"),
        (["--validation.crops", "100000000"], "validation.crops is 100000000; it must be from 0 to 1000"),
        (["--data.cache.capacity", "1e300"], "data.cache.capacity is 1e+300; it must be from"),
        (["--augment.noise.snr", "[0, .inf]"], "augment.noise.snr is [0.0, inf]; each number in it must be"),
        (["--augment.speed", "[.nan]"], "augment.speed is [nan]; each number in it must be from 0.5 to 2"),
        (["--run.seed", "4294967296"], "run.seed is 4294967296; it must be from 0 to 4294967295"),
        (["--validation.crops", "1000"], "1000 of validation.crop_frames 400 are 400000 feature frames"),
        (["--batch.speakers", "1000000"], "are 200000000 feature frames in a global batch"),
        (
            [
                "--batch.speakers",
                "10000",
                "--data.crop_frames",
                "[1, 10000]",
                "--batch.utterances_per_speaker",
                "2",
            ],
            "are 200000000 feature frames in a global batch",
        ),
        (["--data.workers", "256", "--data.prefetch", "256"], "prepare 65536 batches ahead"),
        (["--optim.lr", "1", "--schedule.options", "{gamma: 10, every: 1, unit: steps}"], "beyond 1e+06"),
        (["--optim", "{weight_decay: null}"], "optim.weight_decay is null; give it a value, or leave"),
        (["--data.workers", "9" * 5000], "--data.workers: a number of 5000 digits"),
        (["--model.options", "[" * 500], "--model.options: nested more than 32 deep"),
        (["--optim", "/dev/zero"], "--optim takes {key: value} or a YAML file: /dev/zero: there is no such"),
        (["--data.url", "a\0b"], "it must be UTF-8 text without control characters"),
        (["--data.url", "a\udcff"], "it must be UTF-8 text without control characters"),
        (
            ["--train.norm_rows", "8", "--train.sync_norm", "true"],
            "train.norm_rows is 8 and train.sync_norm is",
        ),
        (["--train.accumulate", "2", "--train.sync_norm", "true"], "set train.norm_rows instead, or"),
        (
            ["--train.precision", "fp16", "--train.device", "cpu"],
            "train.precision is fp16, which is for GPUs",
        ),
        (["--train.norm_rows", "1"], "train.norm_rows is 1; it must be from 2 to"),
        (
            [
                "--train.steps",
                "null",
                "--train.epochs",
                "3",
                "--schedule.name",
                "cosine",
                "--schedule.options.warm_up",
                "4",
            ],
            "schedule.options.warm_up is 4 epochs, and the run has 3: lower it, or train for longer",
        ),
        (
            ["--train.steps", "null", "--train.epochs", "3", "--loss.options.margin_ends", "3.5"],
            "loss.options.margin_ends is 3.5 epochs, and the run has 3: lower it",
        ),
        (["--train.ema", "1"], "train.ema is 1.0; it must be from 0 to 0.999999"),
        (["--optim.weight_decay", "-1"], "optim.weight_decay is -1.0; it must be from 0 to 1000"),
    ],
)
def test_places_and_lengths_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse([*REQUIRED, *arguments])


def test_a_typed_length_replaces_the_recipes_in_the_other_unit(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data: {url: there}\ntrain: {epochs: 3}\n")
    config = parse(["--config", str(file), "--train.steps", "60"])
    assert (config.train.steps, config.train.epochs) == (60, None)


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit):
        parse(["--version"])
    assert capsys.readouterr().out.startswith("voxshard ")


def _numbers(section, prefix=""):
    for name, hint in get_type_hints(section, include_extras=True).items():
        if is_dataclass(hint):
            yield from _numbers(hint, f"{prefix}{name}.")
        elif re.search(r"\b(int|float)\b", str(hint)):
            yield prefix + name, hint


@pytest.mark.parametrize(("key", "hint"), list(_numbers(Config)))
def test_every_number_has_bounds_beside_it(key, hint):
    assert get_origin(hint) is Annotated, key
    (bounds,) = hint.__metadata__
    assert isinstance(bounds, Within)
    assert all(map(math.isfinite, (bounds.low, bounds.high)))


@pytest.mark.parametrize(
    "build", [build_network, partial(build_loss, embedding_size=4, speakers=2, utterances_per_speaker=2)]
)
@pytest.mark.parametrize("number", [10**9, -(10**9), math.nan, math.inf, 10**400])
def test_every_number_among_the_options_of_networks_and_losses_has_bounds(build, number):
    for name in network_names() if build is build_network else loss_names():
        valid = re.findall(r"\w+", _refusal(build, name, {"?": 1}).partition("options:")[2])
        for option in valid:
            if valid != ["none", "at", "all"]:
                assert len(_refusal(build, name, {option: number})) < 300


def _refusal(build, name, options):
    with pytest.raises(ModelError) as raised:
        build(name, options)
    return str(raised.value)


def test_an_empty_section_has_its_defaults(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data: {url: there}\ntrain: {steps: 3}\nloss:\naugment:\n  noise:\nbatch:\n")
    config = parse(["--batch.speakers", "4", "--config", str(file)])
    assert (config.loss.name, config.augment.noise.weight, config.batch.speakers) == ("aamsoftmax", 1.0, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("checkpoint: [{every: 3}]", "checkpoint"),
        ("augment: {noise: 3}", "augment.noise"),
        ("data: {url: null}", "data.url"),
        ('data: {url: "a\\0b"}', "data.url"),
        ("data: {url: x, prefetch: null}", "data.prefetch is null"),
        ("data: {url: x}\ndata: {url: x}", "stands in line 1 already"),
    ],
)
def test_one_line_names_what_is_wrong_in_a_file(tmp_path, capsys, text, said):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises((UserError, SystemExit)) as raised:
        parse(["--config", str(file), "--train.steps", "1"])
    line = capsys.readouterr().err.rstrip() or str(raised.value)
    assert said in line
    assert "\n" not in line


def test_each_file_is_checked_and_options_are_written_out(tmp_path, capsys):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("data: {url: there}\n")
    bad.write_text("optim: {lr: 1}\noptim: {lr: 2}\n")
    with pytest.raises(UserError, match=r"bad\.yaml, line 2"):
        parse(["--config", str(good), f"--config={bad}"])
    with pytest.raises(UserError, match=r"bad\.yaml, line 2"):
        parse([*REQUIRED, "--optim", str(bad)])
    with pytest.raises(SystemExit):
        parse(["--conf", str(bad)])
    assert "unrecognized arguments: --conf" in capsys.readouterr().err


def test_a_configuration_file_may_lie_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.yaml").write_text("data: {url: there}\ntrain: {steps: 3}\n")
    assert parse(["--config=~/x.yaml"]).train.steps == 3


def test_credentials_are_not_printed(capsys):
    with pytest.raises(SystemExit):
        parse([*REQUIRED, "--augment.noise.url", "https://user:secret@host/x", "--print_config"])
    assert "secret" not in capsys.readouterr().out


def test_help_lists_what_there_is_and_each_ones_options(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    out = capsys.readouterr().out
    for line in (
        "model.name, and what --model.options takes for it:",
        "  resnetse34l\n      n_mels: a whole number from 8 to 257 (default 40)",
        "      pooling: sap or asp (default sap)",
        "  sgd\n      momentum: a number from 0 to 0.999999 (default 0.9)",
        "  step\n      gamma: a number from 0 to 10 (default 0.95)",
    ):
        assert line in out


def test_keys_of_an_earlier_release_are_taken(tmp_path):
    file = tmp_path / "old.yaml"
    file.write_text(
        "data: {url: there}\ntrain: {steps: 3}\nschedule: {gamma: 0.5, every: 200, unit: steps}\n"
    )
    config = parse(["--config", str(file), "--schedule.every", "7"])
    assert config.schedule == ScheduleConfig("step", {"gamma": 0.5, "every": 7, "unit": "steps"})


@pytest.mark.slow
def test_several_datasets_are_a_list_in_yaml_and_on_the_command_line(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("data:\n  url: [s3://bucket/one, two]\n  weights: [3, 1]\ntrain: {steps: 1}\n")
    config = parse(["--config", str(file)])
    assert config.data.urls == ["s3://bucket/one", "two"]
    assert config.data.shares == [3.0, 1.0]
    assert yaml.safe_load(as_yaml(config))["data"]["url"] == ["s3://bucket/one", "two"]
    typed = parse(["--data.url", "[~/one, two]", "--train.steps", "1"])
    assert typed.data.urls == [str(Path.home() / "one"), "two"]
    assert typed.data.shares == [1.0, 1.0]
    (tmp_path / "again.yaml").write_text(as_yaml(typed))
    assert parse(["--config", str(tmp_path / "again.yaml")]) == typed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.weights", "[3, -1]"], "data.weights is [3.0, -1.0]; each number in it must be from 0.0001"),
        (["--data.weights", "[3, 0]"], "each number in it must be from 0.0001 to 1000000"),
        (["--data.weights", "[3, .nan]"], "each number in it must be from 0.0001 to 1000000"),
        (["--data.weights", "[3, 1, 1]"], "data.weights has 3 numbers, and data.url 2 datasets: give each"),
        (
            ["--data.url", "one", "--data.weights", "[3, 1]"],
            "data.weights has 2 numbers, and data.url 1 dataset",
        ),
        (["--data.weights", "[1000, 1]"], "give 1 of 1001 to dataset 2, which is none of the 200 speakers"),
        (
            ["--data.order", "windows", "--data.windows.lanes", "100", "--data.weights", "[9, 1]"],
            "none of the 200 speakers of a batch over 100 data.windows.lanes",
        ),
        (["--data.url", "[one, one]"], "data.url has one twice"),
        (["--data.url", "[]"], "data.url is an empty list"),
        (["--data.url", "[one, '']"], "data.url[1] is empty"),
        (
            ["--data.same_speakers", "joined", "--batch.leftover", "rollover"],
            "batch.leftover is rollover, and data.same_speakers is joined",
        ),
    ],
)
def test_datasets_that_do_not_go_together(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse(["--data.url", "[one, two]", "--train.steps", "1", *arguments])
