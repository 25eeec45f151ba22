"""Weights & Biases: a real offline run that stops and goes on is one run there; nothing of it without."""

from __future__ import annotations

import json
import struct

import pytest

from shard_tools.errors import UserError
from train.config.parsing import parse
from train.life.tracker import IDENTIFIER
from train.run import run

REQUIRED = ["--data.url", "shards", "--train.steps", "10"]


@pytest.mark.slow
def test_without_the_package_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("train.config.refusals.find_spec", lambda name: None)
    parse(REQUIRED)
    with pytest.raises(
        UserError, match=r"^train\.wandb is offline, .* pip install 'voxshard\[wandb\]', or set"
    ):
        parse([*REQUIRED, "--train.wandb", "offline"])


def test_a_folder_of_its_name_is_not_the_package(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.delitem(__import__("sys").modules, "wandb", raising=False)
    with pytest.raises(UserError, match="wandb is not installed"):
        parse([*REQUIRED, "--train.wandb", "online"])


def options(corpus, folder, *more):
    return [
        "--data.url", corpus.wav, "--run.folder", str(folder), "--train.device", "cpu", "--data.workers", "0",
        "--train.log_every", "1", "--data.crop_frames", "50", "--batch.speakers", "8", "--model.name", "tdnn",
        "--loss.name", "softmax", "--train.wandb", "offline", "--train.wandb_project", "tests", *more,
    ]  # fmt: skip


def records(path):
    """The records of a .wandb file: protobuf messages in LevelDB's log format, behind seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, place, parts = path.read_bytes(), 7, b""
    while place + 7 <= len(data):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def history(path):
    """What was logged, by step."""
    found = {}
    for record in records(path):
        if record.HasField("history"):
            items = {
                item.key or "/".join(item.nested_key): json.loads(item.value_json)
                for item in record.history.item
            }
            found[items["step"]] = items
    return found


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_same_run_there(corpus, tmp_path, monkeypatch):
    pytest.importorskip("wandb", exc_type=ImportError)
    monkeypatch.setenv("WANDB_MODE", "disabled")  # the option counts
    folder = tmp_path / "run"
    assert run(parse(options(corpus, folder, "--train.steps", "3")))
    assert run(parse(options(corpus, folder, "--train.steps", "5")))
    name = (folder / IDENTIFIER).read_text().strip()
    files = sorted(folder.glob(f"wandb/offline-run-*/run-{name}.wandb"))
    assert len(files) == 2
    logged = [history(file) for file in files]
    assert [sorted(each) for each in logged] == [[1, 2, 3], [4, 5]]
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    for line in lines:
        step = line["step"]
        assert logged[step > 3][step]["train/loss"] == line["loss"]
        assert logged[step > 3][step]["train/utterances_per_second"] == line["utterances_per_second"]
    (begun,) = [record.run for record in records(files[1]) if record.HasField("run")][:1]
    assert (begun.run_id, begun.project, begun.display_name) == (name, "tests", "run")
    kept = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert kept["batch"]["speakers"] == 8
