"""What is known at submission is said at submission, and nothing is left of what was refused."""

from __future__ import annotations

import json
import os
import subprocess
import time
from types import SimpleNamespace

import processes
import pytest
import small_run
import yaml
from fake_slurm import FakeSlurm
from project import REPO

from slurm.__main__ import main
from slurm.records.run_folder import RunFolder
from slurm.submit import train_config


@pytest.fixture
def fake(tmp_path, monkeypatch) -> FakeSlurm:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VOXSHARD_SITE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPO))
    return FakeSlurm(tmp_path / "bin", monkeypatch)


@pytest.fixture
def warm(monkeypatch) -> None:
    """The training's program, which is asked what it makes of a configuration, has loaded torch already."""
    shim = SimpleNamespace(run=processes.answer, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(train_config, "subprocess", shim)


@pytest.fixture
def config(corpus, tmp_path) -> str:
    return str(small_run.config(corpus, tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    ("job", "training", "message"),
    [
        pytest.param(
            ["--nodes", "3"],
            [],
            "batch.speakers 8 cannot be shared by 3 processes: set it to 6 or 9",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            [], ["--validation.trials", "no.txt", "--validation.data", "no"], "no.txt", marks=pytest.mark.slow
        ),
        pytest.param([], ["--optim.lr", "abc"], "optim.lr", marks=pytest.mark.slow),
        ([], ["--data.url", "https://user:secret@host/x"], "https://***@host/x holds credentials"),
        ([], ["--run.folder", "a\nb"], "holds a line end or another control character"),
        (["--name", "a\nscontrol"], [], "name holds a line end"),
        pytest.param([], ["--run.folder", "runs/%j"], "has a % in its path", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_run_is_refused_and_leaves_nothing(
    fake, warm, config, tmp_path, capsys, job, training, message
):
    before = sorted(path.name for path in tmp_path.iterdir())
    words = ["train", "--config", config, *job, "--", "--run.folder", "runs/first", *training]
    assert main(words) == 1
    error = capsys.readouterr().err
    assert error.startswith("slurm: error: ")
    assert error.count("\n") == 1
    assert message in error
    assert "secret" not in error
    assert fake.files() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    "words",
    [
        ["eval", "https://user:secret@host/c.pt", "--", "--out", "out"],
        ["eval", "c.pt", "--", "--data", "https://host/x?X-Amz-Signature=secret", "--out", "out"],
        ["shards", ".", "https://user:secret@host/x", "--parts", "2"],
        ["shards", ".", "out", "--parts", "2", "--", "--list", "https://user:secret@host/l.txt"],
    ],
)
def test_credentials_do_not_reach_a_jobs_files(fake, tmp_path, capsys, words):
    (tmp_path / "c.pt").touch()
    assert main(words) == 1
    error = capsys.readouterr().err
    assert "holds credentials" in error
    assert "secret" not in error
    assert fake.files() == []


@pytest.mark.slow
def test_a_finished_run_takes_no_nodes(fake, warm, config, tmp_path, capsys):
    folder = tmp_path / "runs/first"
    folder.mkdir(parents=True)
    state = {"state": "done", "saved_step": 600, "last_step": 600, "world": 2, "time": time.time()}
    (folder / "state.json").write_text(json.dumps(state))
    words = ["train", "--config", config, "--", "--run.folder", "runs/first"]
    assert main(words) == 0
    assert "is finished, at step 600: nothing was submitted" in capsys.readouterr().out
    assert fake.files() == []
    assert main([*words, "--train.steps", "900"]) == 0
    assert len(fake.files()) == 1


@pytest.mark.slow
def test_a_dry_run_says_that_it_is_not_to_be_sent(fake, config, capsys):
    assert main(["train", "--config", config, "--dry-run", "--", "--run.folder", "runs/first"]) == 0
    first, second = capsys.readouterr().out.splitlines()[:2]
    assert first.startswith("# To be looked at, not to be given to sbatch")
    assert second.startswith("#!")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_an_evaluation_follows_a_training_on_this_machine(warm, corpus, tmp_path, monkeypatch, capsys):
    validation = {"trials": str(corpus.trials), "data": f"{corpus.folder}/wav"}
    path = small_run.config(corpus, tmp_path / "c.yaml", steps=4)
    path.write_text(path.read_text() + yaml.safe_dump({"validation": validation}))
    words = ["train", "--config", str(path), "--cluster", "local", "--then-eval"]
    monkeypatch.chdir(tmp_path)
    forking = REPO / "tests/helpers/forked"  # torchrun forks its rank
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(forking), str(REPO))))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main([*words, "--", "--run.folder", "run"]) == 0, capsys.readouterr().err
    folder = tmp_path / "run"
    training, evaluation = RunFolder(folder).jobs()
    assert (training.kind, evaluation.kind, evaluation.after) == ("train", "eval", training.job)
    end = time.monotonic() + 120
    while not (found := list(folder.glob("eval/*/metrics.json"))) and time.monotonic() < end:
        time.sleep(0.2)
    assert found, "".join(log.read_text() for log in folder.glob("jobs/*_log.*"))
    capsys.readouterr()
    assert main(["status", "run"]) == 0
    said = capsys.readouterr().out
    assert f"on {corpus.trials.name} of step 4: run/eval/step-00000004/report.html" in said
