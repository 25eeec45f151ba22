"""Grids, what is submitted of them, and the table that comes of it."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
import yaml
from fake_slurm import FakeSlurm
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_tools.run_records import Failure
from slurm.__main__ import main
from slurm.errors import SlurmError
from slurm.records.run_folder import Attempt, RunFolder
from slurm.submit import train_config
from slurm.sweep.folder import SweepFolder
from slurm.sweep.grid import combinations, parse_vary, run_name

SWEEP = ["sweep", "--config", "c.yaml", "--folder", "sw"]


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOXSHARD_SITE", raising=False)
    (tmp_path / "c.yaml").touch()

    def complete(config, overrides, ranks):
        values = {"data": {"workers": 1}, "train": {"device": "auto"}, "checkpoint": {"url": None}}
        for key, value in zip(overrides[::2], overrides[1::2], strict=True):
            section, name = key.removeprefix("--").split(".")
            if value == "wrong":
                raise SlurmError(f"the configuration is refused: {key}")
            values.setdefault(section, {})[name] = value
        return yaml.safe_dump(values), values

    monkeypatch.setattr(train_config, "complete", complete)
    return FakeSlurm(tmp_path / "bin", monkeypatch)


def names() -> list[str]:
    return [run.name for run in SweepFolder("sw").runs()]


def finish(
    name: str, *, state: str, step: int, loss: float | None = None, eers: tuple[float, ...] = ()
) -> None:
    """Leave in a run's folder what a training would."""
    folder = Path("sw", name)
    folder.mkdir(parents=True, exist_ok=True)
    said = {"state": state, "saved_step": step, "time": time.time()}
    (folder / "state.json").write_text(json.dumps(said))
    lines = [] if loss is None else [{"step": step, "group": "train", "loss": loss}]
    lines += [{"step": step, "group": "validation", "eer": eer} for eer in eers]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_a_grid_and_its_names():
    grid = parse_vary(["optim.lr=0.1,1e-3", "augment.speed=[],[0.9, 1.1]"])
    assert grid == {"optim.lr": ["0.1", "1e-3"], "augment.speed": ["[]", "[0.9, 1.1]"]}
    combined = combinations(grid)
    assert combined[1] == {"optim.lr": "0.1", "augment.speed": "[0.9, 1.1]"}
    assert [run_name(number, values) for number, values in enumerate(combined)] == [
        "000-lr=0.1_speed", "001-lr=0.1_speed=-0.9-1.1", "002-lr=1e-3_speed", "003-lr=1e-3_speed=-0.9-1.1",
    ]  # fmt: skip
    clash = {"augment.music.weight": "1", "augment.noise.weight": "2"}
    assert run_name(0, clash) == "000-augment.music.weight=1_augment.noise.weight=2"


@pytest.mark.slow
@settings(deadline=None)
@given(
    st.dictionaries(st.from_regex(r"[a-z]{1,9}(\.[a-z]{1,9}){0,2}", fullmatch=True), st.text(), min_size=1)
)
def test_names_are_safe_whatever_the_values(values):
    name = run_name(7, values)
    assert re.fullmatch(r"007-[\w.=+-]+", name, re.ASCII)
    assert len(name) <= 64


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["optim.lr"], "give KEY=V1,V2"),
        (["optim.lr=0.1,"], "give KEY=V1,V2"),
        (["--optim.lr=0.1"], "give KEY=V1,V2"),
        (["a=1,1"], "1 is there twice"),
        (["a=1", "a=2"], "--vary a is given twice"),
        (["run.folder=a,b"], "a folder of its own already"),
    ],
)
def test_what_cannot_be_varied(texts, message):
    with pytest.raises(SlurmError, match=re.escape(message)):
        parse_vary(texts)


def test_all_runs_are_one_array_and_the_summary_waits_for_any_end_of_it(fake, tmp_path):
    assert (
        main([*SWEEP, "--vary", "optim.lr=1,2", "--vary", "run.seed=3,4", "--nodes", "2", "--parallel", "3"])
        == 0
    )
    assert (fake.options(17)["array"], fake.options(17)["nodes"]) == ("0-3%3", "2")
    small = fake.options(18)
    assert (small["dependency"], small["nodes"], small["cpus-per-task"]) == ("afterany:17", "1", "1")
    assert names() == ["000-lr=1_seed=3", "001-lr=1_seed=4", "002-lr=2_seed=3", "003-lr=2_seed=4"]
    folder = RunFolder("sw/002-lr=2_seed=3")
    [job] = folder.jobs()
    assert (job.job, job.kind, job.nodes) == ("17_2", "train", 2)
    assert job.logs == str(tmp_path / "sw/jobs/17_2_*_log.out")
    frozen = yaml.safe_load(Path(job.config).read_text())
    assert frozen["optim"]["lr"] == "2"
    assert frozen["run"] == {"seed": "3", "folder": str(folder.path)}


def test_again_goes_on_with_what_is_not_done_and_adds_what_is_new(fake, capsys):
    assert main([*SWEEP, "--vary", "optim.lr=1,2,3"]) == 0
    finish("000-lr=1", state="done", step=9)
    finish("001-lr=2", state="failed", step=4)
    fake.queue({"17_2": "RUNNING"})
    capsys.readouterr()
    assert main([*SWEEP, "--vary", "optim.lr=1,2,3,4"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == ["000-lr=1: is done", "001-lr=2: goes on", "002-lr=3: is under way", "003-lr=4: new"]
    assert fake.options(19)["array"] == "0-1%2"
    assert fake.options(20)["dependency"] == "afterany:19:17"
    assert [job.job for job in RunFolder("sw/001-lr=2").jobs()] == ["17_1", "19_0"]
    assert names() == ["000-lr=1", "001-lr=2", "002-lr=3", "003-lr=4"]

    fake.queue({})
    assert main([*SWEEP, "--vary", "optim.lr=1"]) == 0
    assert "nothing to submit" in capsys.readouterr().out
    assert main([*SWEEP, "--vary", "optim.lr=1", "--", "--train.steps", "99"]) == 0
    assert "000-lr=1: goes on" in capsys.readouterr().out
    assert len(names()) == 4


def test_checkpoints_elsewhere_are_kept_apart(fake):
    assert main([*SWEEP, "--vary", "optim.lr=1,2", "--", "--checkpoint.url", "s3://b/kept/"]) == 0
    for name in names():
        [job] = RunFolder(f"sw/{name}").jobs()
        assert yaml.safe_load(Path(job.config).read_text())["checkpoint"]["url"] == f"s3://b/kept/{name}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sweep", "--config", "c.yaml"], "give --folder, --vary (or --summary SWEEP"),
        (["sweep", "--summary", "sw"], "holds no sweep (sweep.json)"),
        (["sweep", "--summary", "sw", "--vary", "a=1"], "--summary submits nothing: leave out --vary"),
        ([*SWEEP, "--vary", "optim.lr=1,wrong"], "001-lr=wrong: the configuration is refused: --optim.lr"),
        ([*SWEEP, "--vary", "optim.lr=1", "--cluster", "local"], "--cluster local starts every job at once"),
        ([*SWEEP, "--vary", "optim.lr=1", "--parallel", "0"], "--parallel is 0"),
        ([*SWEEP, "--vary", "optim.lr=1", "--", "--optim.lr=3"], "it is varied"),
        ([*SWEEP, "--vary", "optim.lr=1", "--", "--run.folder", "x"], "give --folder instead"),
    ],
)
def test_mistakes_are_refused_before_anything_is_sent(fake, tmp_path, capsys, words, message):
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("slurm: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert fake.files() == []
    assert not (tmp_path / "sw").exists()


def test_dry_run_leaves_nothing(fake, tmp_path, capsys):
    assert main([*SWEEP, "--vary", "optim.lr=1,2", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# 000-lr=1: new\n# 001-lr=2: new\n")
    assert said.count("#!/bin/bash") == 2
    assert not (tmp_path / "sw").exists()


def test_the_summary_is_sorted_and_tells_states_apart(fake, capsys):
    assert main([*SWEEP, "--vary", "optim.lr=1,2,3,4,5,6"]) == 0
    finish("000-lr=1", state="done", step=30, loss=0.5, eers=(9.0, 4.5, 5.0))
    finish("001-lr=2", state="running", step=20, loss=float("nan"))
    finish("002-lr=3", state="done", step=30, loss=0.25, eers=(3.25,))
    finish("003-lr=4", state="running", step=10)
    finish("004-lr=5", state="failed", step=10)
    failed = RunFolder("sw/004-lr=5")
    failed.begin_attempt(Attempt("17.0", "17_4", ("n1", "n2"), time.time(), 0))
    failed.end_attempt("17.0", "failed", "old")
    failed.begin_attempt(Attempt("17.1", "17_4", ("n1", "n2"), time.time(), 0))
    failed.end_attempt("17.1", "failed", "train: error: the loss is nan")
    failed.add_failure(Failure(1.0, "crash", 0, "n1", "17.0", "old"))
    failed.add_failure(Failure(3.0, "peer", 1, "n1", "17.1", "lost another rank"))
    failed.add_failure(Failure(2.0, "mistake", 0, "n2", "17.1", "Traceback\ntrain: error: the loss is nan"))
    fake.queue({"17_1": "RUNNING", "17_5": "PENDING"})
    capsys.readouterr()
    assert main(["sweep", "--summary", "sw"]) == 0
    shown = capsys.readouterr().out
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in shown.splitlines() if "|" in line
    ]
    assert rows[0] == ["run", "optim.lr", "state", "step", "last loss", "best EER %"]
    assert rows[2:] == [
        ["002-lr=3", "3", "done", "30", "0.2500", "3.250"],
        ["000-lr=1", "1", "done", "30", "0.5000", "4.500"],
        ["001-lr=2", "2", "running", "20", "", ""],
        ["003-lr=4", "4", "lost", "10", "", ""],
        ["004-lr=5", "5", "failed", "10", "", ""],
        ["005-lr=6", "6", "pending", "0", "", ""],
    ]
    assert "004-lr=5 failed: rank 0 on n2: train: error: the loss is nan" in shown
    assert Path("sw/summary.md").read_text() == shown
    [first, *_] = json.loads(Path("sw/summary.json").read_text())
    assert (first["name"], first["values"], first["eer"]) == ("002-lr=3", {"optim.lr": "3"}, 3.25)
