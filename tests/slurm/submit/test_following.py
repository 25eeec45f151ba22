"""A training that follows another run: what it waits for, begins with, and is refused for."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_slurm import FakeSlurm

from slurm.__main__ import main
from slurm.records.run_folder import Job, RunFolder
from slurm.submit import train_config

FIRST = {"model": {"name": "tdnn"}, "checkpoint": {"url": None, "keep": 3}}


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOXSHARD_SITE", raising=False)
    (tmp_path / "c.yaml").touch()
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """The checks that a training's configuration was asked for; the answers need no Python of their own."""
    checks: list[list[str]] = []

    def answer(config: str, overrides: Any, *question: str) -> str:
        values: dict[str, Any] = {
            "run": {"folder": "runs/second"},
            "data": {"workers": 1},
            "train": {"device": "auto"},
            "init": {"from": None, "average": None, "head": "auto"},
        }
        values["init"] |= (yaml.safe_load(Path(config).read_text()) or {}).get("init", {})
        words = list(overrides)
        for option in ("from", "average"):
            if f"--init.{option}" in words:
                values["init"][option] = yaml.safe_load(words[words.index(f"--init.{option}") + 1])
        if "--check" in question:
            checks.append(words)
        return yaml.safe_dump(values)

    monkeypatch.setattr(train_config, "_asked", answer)
    return checks


def first(state: str | None = None, saved: int = 5, config: dict[str, Any] = FIRST) -> RunFolder:
    """The run that is waited for, whose job 9 may be in the queue."""
    folder = RunFolder("runs/first")
    folder.make()
    frozen = folder.jobs_path / "frozen.yaml"
    frozen.write_text(yaml.safe_dump(config))
    folder.add_job(Job("9", "train", 1, 1, "x", config=str(frozen)))
    if state:
        text = json.dumps({"state": state, "saved_step": saved, "last_step": 10, "time": 1.0})
        (folder.path / "state.json").write_text(text)
    return folder


def submitted(*words: str) -> int:
    own, rest = (words[: words.index("--")], words[words.index("--") :]) if "--" in words else (words, ())
    return main(["train", "--config", "c.yaml", "--after", "runs/first", *own, *rest])


def test_it_waits_for_the_job_of_a_run_that_is_on_its_way(fake, asked, capsys):
    first("running")
    fake.queue({"9": "RUNNING"})
    assert submitted("--then-eval") == 1  # without validation
    assert submitted() == 0
    options = fake.options(17)
    assert (options["dependency"], options["kill-on-invalid-dep"]) == ("afterok:9", "yes")
    [job] = RunFolder("runs/second").jobs()
    assert (job.after, job.follows) == ("9", os.path.abspath("runs/first"))
    assert job.config is not None
    assert yaml.safe_load(Path(job.config).read_text())["init"]["from"] == "runs/first"
    frozen = os.path.abspath("runs/first/jobs/frozen.yaml")
    assert asked[-1] == ["--init.from", "runs/first", "--init.from", frozen, "--init.average", "null"]
    [task] = RunFolder("runs/second").jobs_path.glob("*_submitted.pkl")
    assert pickle.loads(task.read_bytes()).function.training.follows == os.path.abspath("runs/first")
    assert "begins when runs/first is done (job 9), with runs/first" in capsys.readouterr().out


def test_a_run_that_is_done_is_not_waited_for(fake, asked, capsys):
    first("done", saved=10)
    assert submitted("--", "--init.from", "runs/first/average.pt") == 0
    assert "dependency" not in fake.options(17)
    assert asked[-1] == ["--init.from", "runs/first/average.pt"]
    assert "begins at once" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("state", "words", "said"),
    [
        (None, [], "runs/first has not begun, and SLURM's queue has no job of it"),
        (
            "stopped",
            [],
            "runs/first is stopped, at step 5 of 10, and SLURM's queue has no job of it: python -m",
        ),
        ("failed", [], "runs/first is failed, at step 5 of 10, and SLURM's"),
        ("done", [], "runs/first is done, at step 5 of 10, and SLURM's queue has no job of it"),
        ("failed", ["--cluster", "local"], "no job of it runs here"),
    ],
)
def test_a_run_that_cannot_come_to_its_end_is_refused(fake, asked, capsys, state, words, said):
    first(state)
    assert submitted(*words) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert fake.files() == []


def test_weights_of_another_run_are_refused_unless_they_were_typed(fake, asked, capsys, tmp_path):
    first("done", saved=10)
    config = tmp_path / "runs/first/config.yaml"
    config.write_text(yaml.safe_dump({"checkpoint": {"url": "s3://bucket/first"}}))
    for place in ("runs/other", "s3://bucket/first/step-00000010.pt"):
        assert submitted("--", "--init.from", place) == 0
        (tmp_path / "runs/second").rename(tmp_path / f"runs/{place[0]}")
    import slurm.submit.following as following

    before = following.Before(RunFolder("runs/first"), "runs/first", (), "slurm")
    with pytest.raises(
        following.SlurmError, match=r"init\.from is runs/other, and --after waits for runs/first"
    ):
        before.check({"init": {"from": "runs/other", "average": None}}, [])


def test_more_checkpoints_than_the_run_keeps_are_refused(fake, asked, capsys):
    first("running")
    fake.queue({"9": "PENDING"})
    assert submitted("--", "--init.average", "4") == 1
    assert "init.average is 4, and runs/first keeps 3 checkpoints: lower it" in capsys.readouterr().err
    assert submitted("--", "--init.average", "3") == 0


def test_the_run_itself_and_what_is_no_run_are_refused(fake, asked, capsys):
    assert submitted() == 1
    assert "runs/first is no folder" in capsys.readouterr().err
    first("done", saved=10).path.rename("runs/second")
    assert main(["train", "--config", "c.yaml", "--after", "runs/second"]) == 1
    assert "--after runs/second is the run itself" in capsys.readouterr().err


def test_resumed_before_it_began_it_waits_again(fake, asked, tmp_path):
    first("running")
    fake.queue({"9": "RUNNING"})
    assert submitted() == 0
    fake.queue({"9": "RUNNING"})
    assert main(["resume", "runs/second"]) == 0
    assert fake.options(18)["dependency"] == "afterok:9"
    (tmp_path / "runs/second/state.json").write_text('{"state": "stopped", "saved_step": 3}')
    assert main(["resume", "runs/second"]) == 0
    assert "dependency" not in fake.options(19)


def test_dry_run_shows_the_dependency(fake, asked, capsys):
    first("running")
    fake.queue({"9": "RUNNING"})
    assert submitted("--dry-run") == 0
    assert "#SBATCH --dependency=afterok:9" in capsys.readouterr().out
    assert fake.files() == []
