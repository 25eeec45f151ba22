"""Training on a real SLURM ends in the weights of an undisturbed run, whatever the cluster does to it."""

from __future__ import annotations

import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import processes
import pytest
from cluster import Cluster
from jobs import (
    assert_same_weights,
    attempts,
    final_state,
    finish,
    printed,
    reach,
    records,
    restarted,
    step,
    submit,
    until,
)
from processes import torchrun
from small_corpus import Corpus
from small_run import STEPS, config

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture(scope="session")
def undisturbed(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The last checkpoint of two ranks without SLURM, in one go."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run = folder / "run"
    given = ("--config", str(config(corpus, folder / "c.yaml")), "--run.folder", str(run))
    status, said = processes.finish(torchrun(2, "-m", "train", *given), folder / "log.txt")
    assert status == 0, said
    return final_state(run)


def train(
    cluster: Cluster, corpus: Corpus, tmp_path: Path, *options: str, nodes: int = 2
) -> tuple[str, Path]:
    """A run of two ranks on one or two nodes, on its way."""
    run = tmp_path / "run"
    given = config(corpus, tmp_path / "config.yaml")
    size = ("--nodes", str(nodes), "--ranks-per-node", str(2 // nodes))
    command = ("train", "--config", str(given), *size, *options, "--", "--run.folder", str(run))
    [job] = submit(cluster, *command)
    return job, run


def every_step_once(run: Path) -> bool:
    seen = [record["step"] for record in records(run / "metrics.jsonl") if record["group"] == "train"]
    return seen == list(range(1, STEPS + 1))


def rank(cluster: Cluster, job: str, node: str) -> int:
    """The process of the rank on a node."""
    for pid in cluster.processes(job, node):
        # A forked rank has torchrun's own command line: that of a process that is no torchrun's child.
        if _is_torchrun(_parent(pid)) and not _is_torchrun(_parent(_parent(pid))):
            return pid
    raise AssertionError(f"no rank on {node}")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _is_torchrun(pid: int) -> bool:
    return b"torch.distributed.run" in Path(f"/proc/{pid}/cmdline").read_bytes()


def go_on(run: Path) -> None:
    """Until some steps after those that were there before."""
    reach(run, step(run) + random.randint(3, 12))


def test_preempted_killed_and_short_of_a_node_it_ends_in_the_same_weights(
    cluster: Cluster, corpus: Corpus, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    job, run = train(cluster, corpus, tmp_path)

    go_on(run)
    urgent = ("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    cluster.run(*urgent)
    restarted(cluster, job, run, 1)

    go_on(run)
    os.kill(rank(cluster, job, random.choice(cluster.nodes)), signal.SIGKILL)
    restarted(cluster, job, run, 2)

    go_on(run)
    cluster.stop_node("n1")  # the one that leads
    until(lambda: cluster.state(job) == "PENDING", "the requeue after a node's loss", run)
    # What SLURM could not tell the lost node it tells again a minute later: a step of the same number that
    # runs there by then would get the signal that was meant for its predecessor.
    time.sleep(62)
    cluster.start_node("n1")

    assert finish(cluster, job, run) == "COMPLETED", printed(run)
    assert_same_weights(final_state(run), undisturbed)
    assert every_step_once(run)
    preempted, killed, _, last = attempts(run)
    assert preempted["outcome"] == "stopped"
    # What a signal stopped, nothing was lost of: the next attempt found the very step of the stop.
    assert preempted["saved_after"] == killed["saved_before"] > 0
    assert killed["outcome"] == "failed"
    assert "was ended by SIGKILL" in killed["cause"]
    assert last["outcome"] == "done"


def test_out_of_time_it_goes_on_in_the_next_start(
    cluster: Cluster, corpus: Corpus, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    began = time.monotonic()
    job, run = train(cluster, corpus, tmp_path, "--time", "20", "--signal-delay", "80", nodes=1)
    reach(run, random.randint(1, 10))
    slow = rank(cluster, job, cluster.hosts(job)[0])
    os.kill(slow, signal.SIGSTOP)  # its step takes until SLURM's signal is there, which may come at once
    # However long that took, a minute or two are left of the time now, and the signal comes before.
    minutes = math.ceil((time.monotonic() - began + 70) / 60)
    cluster.run("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")
    until(lambda: "SIGUSR2: the ranks save" in printed(run), "the signal before the time limit", run)
    os.kill(slow, signal.SIGCONT)
    until(lambda: cluster.state(job) == "PENDING", "the requeue", run)
    cluster.run("scontrol", "update", f"JobId={job}", "TimeLimit=20")  # SLURM keeps the shorter one otherwise
    assert finish(cluster, job, run) == "COMPLETED", printed(run)
    first, second = attempts(run)
    assert (first["outcome"], second["outcome"]) == ("stopped", "done")
    assert first["saved_after"] == second["saved_before"] < STEPS
    assert_same_weights(final_state(run), undisturbed)
    assert every_step_once(run)
