"""What cannot go well on a real SLURM ends soon, with its cause, and is not tried for ever."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import processes
import pytest
from cluster import Cluster
from jobs import (
    ask,
    attempts,
    finish,
    first_of_path,
    printed,
    reach,
    submit,
    until,
)
from small_corpus import Corpus
from small_run import STEPS, config

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SIZE = ("--nodes", "2", "--ranks-per-node", "1")
ONE_NODE = ("--nodes", "1", "--ranks-per-node", "2")


def train(
    cluster: Cluster,
    corpus: Corpus,
    tmp_path: Path,
    *,
    options: tuple[str, ...] = (),
    size: tuple[str, ...] = SIZE,
    steps: int = STEPS,
    **more: str,
) -> tuple[str, Path]:
    run = tmp_path / "run"
    given = config(corpus, tmp_path / "config.yaml", steps=steps)
    command = ("train", "--config", str(given), *size, *options, "--", "--run.folder", str(run))
    [job] = submit(cluster, *command, **more)
    return job, run


def at_start(folder: Path, code: str) -> dict[str, str]:
    """An environment in which every Python of the job runs `code` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(code)
    return first_of_path(folder)


@contextlib.contextmanager
def small_disk(path: Path, kib: int) -> Iterator[None]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_mistake_ends_the_job_once_and_for_all(cluster: Cluster, corpus: Corpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = config(corpus, tmp_path / "config.yaml", log_every=5)
    overrides = ("--run.folder", str(run), "--optim.lr", "1e18")
    [job] = submit(cluster, "train", "--config", str(given), *SIZE, "--", *overrides)
    assert finish(cluster, job, run) == "FAILED"
    assert cluster.job(job)["Restarts"] == "0"
    assert cluster.job(job)["ExitCode"] != "0:0"
    [attempt] = attempts(run)
    assert attempt["outcome"] == "failed"
    assert "the loss is" in attempt["cause"]
    assert "lower optim.lr" in attempt["cause"]


@pytest.mark.exhaustive
def test_a_module_that_one_node_lacks_is_named_with_the_node(
    cluster: Cluster, corpus: Corpus, tmp_path: Path
) -> None:
    lacking = (
        "import os, sys\n"
        "class Lacking:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'soundfile':\n"
        "            raise ModuleNotFoundError(\"No module named 'soundfile'\", name=name)\n"
        "if os.environ.get('SLURMD_NODENAME') == 'n2':\n"
        "    sys.meta_path.insert(0, Lacking())\n"
    )
    job, run = train(cluster, corpus, tmp_path, **at_start(tmp_path / "site", lacking))
    assert finish(cluster, job, run) == "FAILED"
    assert cluster.job(job)["Restarts"] == "0"
    cause = attempts(run)[-1]["cause"]
    assert "node n2" in cause
    assert "has no module soundfile: install it there too" in cause


@pytest.mark.exhaustive
def test_a_full_disk_is_named(cluster: Cluster, corpus: Corpus, tmp_path: Path) -> None:
    with small_disk(tmp_path / "run", 400):
        job, run = train(cluster, corpus, tmp_path)
        assert finish(cluster, job, run) == "FAILED", printed(run)
        told = [json.loads(path.read_text()) for path in (run / "failures").glob("*.json")]
        causes = [attempt.get("cause") or "" for attempt in attempts(run)]
        said = printed(run) + str(told) + str(causes)
        assert "no space left on the disk" in said


@pytest.mark.exhaustive
def test_starts_without_progress_are_bounded(cluster: Cluster, corpus: Corpus, tmp_path: Path) -> None:
    dying = "import os\nif os.environ.get('RANK') == '1': os.kill(os.getpid(), 9)\n"
    surroundings = at_start(tmp_path / "site", dying)
    job, run = train(cluster, corpus, tmp_path, options=("--tries", "1"), size=ONE_NODE, **surroundings)
    assert finish(cluster, job, run) == "FAILED", printed(run)
    assert cluster.job(job)["Restarts"] == "1"
    tried, refused = attempts(run)
    assert tried["outcome"] == "failed"
    assert "1 attempt in a row made no progress beyond step 0" in refused["cause"]
    assert "SIGKILL" in refused["cause"]


def test_a_second_run_is_refused_and_a_cancelled_one_stays_cancelled(
    cluster: Cluster, corpus: Corpus, tmp_path: Path
) -> None:
    job, run = train(cluster, corpus, tmp_path, steps=100_000, size=ONE_NODE)
    reach(run, 10)
    again = ask(
        cluster, "train", "--config", str(tmp_path / "config.yaml"), *ONE_NODE, "--", "--run.folder", str(run)
    )
    assert again.returncode == 1
    assert f"already has job {job} (RUNNING)" in again.stderr
    words = ["-m", "train", "--config", str(tmp_path / "config.yaml"), "--run.folder", str(run)]
    status, said = processes.finish([sys.executable, *words], tmp_path / "beside.txt")
    assert status == 1
    assert f"is in use by another run (job {job}, process " in said

    cluster.run("scancel", job)
    assert finish(cluster, job, run) == "CANCELLED"
    until(lambda: not cluster.processes(job), "the end of the job's processes", run)
    state = json.loads((run / "state.json").read_text())
    assert state["state"] == "stopped"  # within SLURM's KillWait
    assert (run / f"checkpoints/step-{state['saved_step']:08d}.pt").exists()
    time.sleep(3)
    assert cluster.state(job) == "CANCELLED"
    assert cluster.job(job)["Restarts"] == "0"


def test_a_run_folder_that_cannot_be_written_is_refused_at_once(
    cluster: Cluster, corpus: Corpus, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    given = config(corpus, tmp_path / "config.yaml")
    folder = tmp_path / "file" / "run"
    done = ask(cluster, "train", "--config", str(given), "--", "--run.folder", str(folder))
    assert done.returncode == 1
    assert done.stderr.startswith(f"slurm: error: the folder {folder} cannot be written (Not a directory)")
