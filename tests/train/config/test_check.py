"""What is said of a run before it starts, and before it is queued."""

from __future__ import annotations

import re
import shutil

import pytest
import yaml

from shard_tools.errors import UserError
from train.config.kept import as_yaml
from train.config.parsing import parse


@pytest.fixture
def checkable(corpus, tmp_path):
    """A run of 16 speakers, a list whose last utterance is nowhere, and a folder of audio."""
    (tmp_path / "list").write_text("1 s00/0.wav s00/1.wav\n0 s00/0.wav s99/1.wav\n")
    (tmp_path / "wav").symlink_to(corpus.folder / "wav")
    return ["--data.url", corpus.wav, "--train.steps", "10", "--batch.speakers", "16"]


def test_nothing_of_a_run_that_can_start(checkable, corpus, tmp_path, capsys):
    (tmp_path / "a b").symlink_to(corpus.wav)
    more = [
        *("--data.url", f"file://{tmp_path}/a b", "--augment.noise.url", corpus.noise),
        *("--augment.noise.category", "noise", "--augment.babble.url", "s3://bucket/babble"),
        *("--validation.trials", str(corpus.trials), "--validation.data", str(corpus.folder / "wav")),
    ]
    with pytest.raises(SystemExit) as ended:
        parse([*checkable, *more, "--check", "16"])
    assert ended.value.code == 0
    assert capsys.readouterr() == ("", "")


def test_with_print_config_it_is_checked_first_and_then_printed(checkable, capsys):
    with pytest.raises(SystemExit) as ended:
        parse([*checkable, "--check", "16", "--print_config"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert yaml.safe_load(said)["batch"]["speakers"] == 16
    with pytest.raises(UserError, match=r"batch\.speakers 16 cannot be shared by 5 processes"):
        parse([*checkable, "--check", "5", "--print_config"])
    assert capsys.readouterr().out == ""


def test_a_command_line_keeps_nothing_of_another(checkable):
    """They share a parser: what one run's options were changed into is not what the next begins with."""
    first = parse(checkable)
    untouched = as_yaml(first)
    first.data.crop_frames, first.optim.rates["loss"], first.augment.speed[:] = 7, 0.5, [0.9]
    parse([*checkable, "--augment.speed", "[1.1]", "--optim.rates", "{network: 2.0}"])
    assert as_yaml(parse(checkable)) == untouched


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--batch.speakers", "200"],
            "batch.speakers 200 cannot be shared by 16 processes: set it to 192 or 208",
        ),
        (["--batch.speakers", "32"], "and {wav} has 16: set batch.speakers to at most 16"),
        (
            ["--batch.speakers", "64", "--augment.speed", "[0.9, 1.1]"],
            "has 16 at 3 speeds: set batch.speakers to at most 48",
        ),
        (["--data.order", "windows"], "data.windows.lanes 1 cannot be shared by 16 processes: set it to 16"),
        (
            ["--data.order", "windows", "--data.windows.lanes", "16"],
            "data.windows.lanes is 16, and there are ",
        ),
        (["--data.url", "nowhere"], "data.url is nowhere, and there is no manifest.json in that folder"),
        (["--data.url", "file:///nowhere"], "data.url is file:///nowhere, and there is no manifest.json"),
        (["--augment.noise.url", "no"], "augment.noise.url is no, and there is no manifest.json"),
        (
            ["--augment.noise.url", "{noise}", "--augment.noise.category", "free-sound"],
            "augment.noise.category is 'free-sound', and {noise} has noise: take one of these",
        ),
        (["--validation.trials", "gone", "--validation.data", "."], "validation.trials is gone"),
        (["--validation.trials", "{here}/list", "--validation.data", "gone"], "validation.data is gone"),
        (
            ["--validation.trials", "{here}/list", "--validation.data", "{wav}"],
            "1 of the 3 utterances in {here}/list are not there: s99/1",
        ),
        (
            ["--validation.trials", "{here}/list", "--validation.data", "{here}/wav"],
            "1 of the 3 utterances in {here}/list are not there: s99/1",
        ),
        (["--model.options", "{{n_mel: 3}}"], "has no option 'n_mel'"),
        (["--loss.name", "angleproto"], "utterances"),
    ],
)
def test_what_a_run_would_fail_at(checkable, arguments, message, corpus, tmp_path):
    places = {"here": tmp_path, "wav": corpus.wav, "noise": corpus.noise}
    with pytest.raises(UserError, match=re.escape(message.format(**places))):
        parse([*checkable, *(each.format(**places) for each in arguments), "--check", "16"])


def test_a_manifest_that_is_damaged(checkable, corpus, tmp_path):
    shutil.copytree(corpus.wav, tmp_path / "copy")
    (tmp_path / "copy" / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"manifest\.json"):
        parse([*checkable, "--data.url", str(tmp_path / "copy"), "--check", "4"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "{wav} and {flac} both have speakers named s00, s01, s02 and 13 more: set data.same_speakers"),
        (
            ["--data.weights", "[1, 3]", "--batch.speakers", "32"],
            "{flac} gives 24 of the 32 speakers of a batch",
        ),
        (
            ["--data.url", "[{wav}, gone]"],
            "data.url[1] is gone, and there is no manifest.json in that folder",
        ),
        (
            ["--data.order", "windows", "--data.windows.lanes", "8", "--data.same_speakers", "apart"],
            "data.windows.lanes is 8, and there are ",
        ),
    ],
)
def test_datasets_that_a_run_would_not_train_on(checkable, corpus, arguments, message):
    places = {"wav": corpus.wav, "flac": corpus.flac}
    arguments = ["--data.url", "[{wav}, {flac}]", *arguments]
    with pytest.raises(UserError, match=re.escape(message.format(**places))):
        parse([*checkable, *(each.format(**places) for each in arguments), "--check", "8"])
