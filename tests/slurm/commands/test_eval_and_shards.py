"""What evaluation and packing hand to sbatch, and what they refuse before it."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from fake_slurm import FakeSlurm
from project import REPO

from slurm.__main__ import main
from slurm.programs import KNOWS_SAFE
from slurm.records.run_folder import RunFolder
from slurm.submit import train_config
from slurm.submit.job import CommandJob

# Of Python 3.10 the commands have another form, which test_programs.py looks at.
safe = pytest.mark.skipif(not KNOWS_SAFE, reason="commands as Python 3.11 has them")


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOXSHARD_SITE", raising=False)
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def configured(monkeypatch):
    """A training's configuration without starting a Python for it; the values may be changed."""
    values = {
        "run": {"folder": "runs/first"},
        "data": {"workers": 1},
        "train": {"device": "auto"},
        "validation": {"trials": "t.txt", "data": "shards"},
    }
    monkeypatch.setattr(train_config, "complete", lambda *_: (yaml.safe_dump(values), values))
    return values


def make_run(folder: Path, **validation: str) -> None:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump({"validation": validation}))


def commands(folder: Path) -> list[tuple[str, ...]]:
    """Of the jobs whose tasks submitit has left in a folder, those of one submission in order."""
    tasks = [pickle.loads(path.read_bytes()).function for path in sorted(folder.glob("*_submitted.pkl"))]
    return [task.command for task in tasks if isinstance(task, CommandJob)]


@safe
def test_an_evaluation_of_a_run(fake, tmp_path, capsys):
    make_run(tmp_path / "runs/first", trials="t.txt", data="shards")
    words = ["eval", "runs/first", "--which", "newest", "--gpus-per-node", "1", "--partition", "gpu"]
    assert main([*words, "--", "--crops", "10"]) == 0
    options = fake.options(17)
    assert (options["gpus-per-node"], options["cpus-per-task"], options["nodes"]) == ("1", "4", "1")
    assert (options["partition"], options["job-name"]) == ("gpu", "first-eval")
    assert "dependency" not in options
    [job] = RunFolder("runs/first").jobs()
    assert (job.job, job.kind, job.after) == ("17", "eval", None)
    run = str(tmp_path / "runs/first")
    [command] = commands(tmp_path / "runs/first/jobs")
    # A node whose driver is not found fails.
    assert command[1:] == ("-m", "eval", run, "--which", "newest", "--crops", "10", "--device", "cuda")
    assert "job 17: evaluation of runs/first, 1 GPU, 4 CPUs" in capsys.readouterr().out


@safe
def test_an_evaluation_on_several_gpus_has_a_rank_each(fake, tmp_path, monkeypatch, capsys):
    (tmp_path / "site.yaml").write_text("gpus_per_node: 8")
    monkeypatch.setenv("VOXSHARD_SITE", "site.yaml")
    make_run(tmp_path / "runs/first", trials="t.txt", data="shards")
    assert main(["eval", "runs/first", "--gpus-per-node", "4", "--", "--crops", "10"]) == 0
    options = fake.options(17)
    assert (options["gpus-per-node"], options["cpus-per-task"], options["ntasks-per-node"]) == (
        "4",
        "16",
        "1",
    )
    [command] = commands(tmp_path / "runs/first/jobs")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4")
    words = ("-m", "eval", str(tmp_path / "runs/first"), "--crops", "10", "--device", "cuda")
    assert command[1:] == (*launcher, *words)
    assert "4 GPUs, 16 CPUs" in capsys.readouterr().out
    assert main(["eval", "runs/first"]) == 0
    assert fake.options(18)["gpus-per-node"] == "1"  # the site's 8 are a training's


def test_an_evaluation_of_a_checkpoint_is_noted_beside_its_results(fake, tmp_path):
    (tmp_path / "c.pt").touch()
    assert main(["eval", "c.pt", "--", "--trials", "t", "--data", "d", "--out=results/one"]) == 0
    [job] = RunFolder("results/one").jobs()
    assert job.logs == str(tmp_path / "results/one/jobs/17_*_log.out")
    assert "gpus-per-node" not in fake.options(17)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "nowhere"], "nowhere: there is no such run or checkpoint"),
        (["eval", "c.pt"], "c.pt is not a run's folder: say where results go with -- --out FOLDER"),
        (["eval", "c.pt", "--which", "best"], "c.pt is a file: leave it out"),
        (["eval", "bare"], "has no validation.trials, so there is nothing to evaluate on: give -- --trials"),
        (["eval", "begun"], "begun has no config.yaml yet"),
        (["shards", "nowhere", "out", "--parts", "2"], "ROOT nowhere: there is no such folder"),
        (["shards", ".", "out", "--parts", "0"], "--parts is 0: give at least 1"),
        (["shards", ".", "out", "--parts", "999999999"], "--parts is 999999999: give 100000 at most"),
        (["shards", ".", "out", "--parts", "2", "--parallel", "0"], "--parallel is 0"),
        (
            ["shards", ".", "out", "--parts", "2", "--cluster", "local"],
            "--cluster local starts every job at once",
        ),
        (["shards", ".", "out", "--parts", "2", "--", "--part=1/2"], "--part after -- is for this command"),
        (["shards", ".", "out", "--parts", "2", "--", "--append"], "--append after -- needs all files"),
        (["shards", ".", "out", "--parts", "2", "--", "--min-seconds=2"], "make-shards select"),
    ],
)
def test_mistakes_are_refused_in_one_line_before_anything_is_sent(fake, tmp_path, capsys, words, message):
    (tmp_path / "c.pt").touch()
    make_run(tmp_path / "bare")
    (tmp_path / "begun/jobs").mkdir(parents=True)
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("slurm: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert fake.files() == []


def test_trials_typed_serve_a_run_without_validation(fake, tmp_path):
    make_run(tmp_path / "bare")
    assert main(["eval", "bare", "--", "--trials", "t", "--data", "d"]) == 0
    assert len(fake.files()) == 1


def test_then_eval_waits_for_the_training(fake, configured, tmp_path):
    config = tmp_path / "c.yaml"
    config.touch()
    words = ["train", "--config", str(config), "--then-eval", "--nodes", "2", "--gpus-per-node", "8"]
    assert main([*words, "--account", "a"]) == 0
    assert fake.options(17)["nodes"] == "2"
    options = fake.options(18)
    assert options["dependency"] == "afterok:17"
    assert options["kill-on-invalid-dep"] == "yes"
    assert (options["nodes"], options["gpus-per-node"], options["account"]) == ("1", "1", "a")
    training, evaluation = RunFolder("runs/first").jobs()
    assert (training.kind, evaluation.kind, evaluation.after) == ("train", "eval", "17")

    fake.queue({})
    assert main(["resume", "runs/first", "--then-eval"]) == 0
    assert fake.options(20)["dependency"] == "afterok:19"


def test_then_eval_that_cannot_be_is_refused_before_the_training_is_sent(fake, configured, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.touch()
    words = ["train", "--config", str(config), "--then-eval"]
    configured["validation"]["data"] = None
    assert main(words) == 1
    assert f"{config} has no validation.data" in capsys.readouterr().err
    assert fake.files() == []


@safe
def test_packing_in_parts_and_the_merging_after_all_of_them(fake, tmp_path, capsys):
    words = ["shards", ".", "s3://bucket/vox", "--parts", "3", "--parallel", "2", "--cpus-per-task", "8"]
    assert main([*words, "--", "--list", "l.txt"]) == 0
    assert fake.options(17)["array"] == "0-2%2"
    assert fake.options(17)["cpus-per-task"] == "8"
    assert fake.options(18)["dependency"] == "afterok:17"
    folder = RunFolder("runs/shards-vox")
    assert [(job.job, job.kind) for job in folder.jobs()] == [
        ("17_0", "shards"), ("17_1", "shards"), ("17_2", "shards"), ("18", "merge"),
    ]  # fmt: skip
    *parts, merge = commands(folder.jobs_path)
    pack = ("-m", "shard_tools.cli", "pack", str(tmp_path), "s3://bucket/vox", "--part")
    assert [part[1:] for part in parts] == [(*pack, f"{number}/3", "--list", "l.txt") for number in (1, 2, 3)]
    assert merge[1:] == ("-m", "shard_tools.cli", "merge", "s3://bucket/vox")
    said = capsys.readouterr().out
    assert "make-shards merge s3://bucket/vox" in said
    assert str(folder.jobs_path / "17_*_log.out") in said

    fake.queue({"17_1": "RUNNING"})
    assert main(words) == 1
    assert "already has job 17_1 (RUNNING)" in capsys.readouterr().err


def test_what_the_first_job_is_to_wait_for_does_not_free_the_second(fake):
    assert main(["shards", ".", "out", "--parts", "2", "--sbatch", "dependency=afterok:5"]) == 0
    assert fake.options(17)["dependency"] == "afterok:5"
    assert fake.options(18)["dependency"] == "afterok:17"


@pytest.mark.slow
def test_debug_runs_the_parts_and_the_merging_one_after_the_other(tmp_path):
    for name in ("a/1.wav", "b/1.wav"):
        path = tmp_path / "wav" / name
        path.parent.mkdir(parents=True)
        soundfile.write(path, np.zeros(8000), 16000, subtype="PCM_16")
    words = ["shards", str(tmp_path / "wav"), str(tmp_path / "out"), "--parts", "2", "--cluster", "debug"]
    command = [sys.executable, "-m", "slurm", *words, "--folder", str(tmp_path / "records")]
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/manifest.json").read_text())["shardlist"]
    assert [job.kind for job in RunFolder(tmp_path / "records").jobs()] == ["shards", "shards", "merge"]


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (["eval", "runs/first"], 1),
        (["train", "--config", "c.yaml"], 1),
        (["train", "--config", "c.yaml", "--then-eval"], 2),
        (["shards", ".", "out", "--parts", "2"], 2),
    ],
)
def test_dry_run_shows_the_files_and_leaves_nothing(fake, configured, tmp_path, capsys, words, files):
    make_run(tmp_path / "runs/first", trials="t.txt", data="shards")
    (tmp_path / "c.yaml").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("#!/bin/bash") == files
    assert fake.files() == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["train", "resume", "eval", "shards", "sweep"])
def test_help_has_examples(capsys, command):
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"  python -m slurm {command} " in capsys.readouterr().out
