"""The tests' own SLURM does what tests rely on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cluster import ENDED, Cluster

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.exhaustive]


def _submit(cluster: Cluster, *options: str, command: str) -> int:
    """All jobs ask for all CPUs, so that no two of them run at a time."""
    return int(cluster.run("sbatch", "--parsable", "-N2", "--exclusive", *options, "--wrap", command))


def test_a_step_runs_on_both_nodes(cluster: Cluster) -> None:
    names = cluster.run("srun", "-N2", "printenv", "SLURMD_NODENAME").split()
    assert sorted(names) == ["n1", "n2"]


def test_a_preempted_job_is_requeued_and_runs_again(cluster: Cluster, tmp_path: Path) -> None:
    output = f"--output={tmp_path}/%j.out"
    patient = """srun sh -c 'trap "" TERM; sleep 1000'"""  # what ends before the grace does is not requeued
    job = _submit(cluster, output, "--requeue", command=patient)
    cluster.wait_for(job, "RUNNING")
    assert cluster.hosts(job) == ["n1", "n2"]
    urgent = _submit(cluster, output, "--partition=urgent", command="srun true")
    assert cluster.wait_for(urgent, ENDED, timeout=90) == "COMPLETED"
    assert cluster.state(job) == "PENDING"
    assert cluster.job(job)["Restarts"] == "1"
    cluster.release(job)
    cluster.wait_for(job, "RUNNING")


def test_a_stopped_node_loses_its_processes_and_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    job = _submit(cluster, f"--output={tmp_path}/%j.out", command="srun sleep 1000")
    cluster.wait_for(job, "RUNNING")
    while not cluster.processes(job, "n2"):
        assert cluster.state(job) == "RUNNING"
    lost = cluster.processes(job, "n2")
    cluster.stop_node("n2")
    assert not any(os.path.exists(f"/proc/{pid}/exe") for pid in lost)
    assert cluster.processes(job, "n1")
    cluster.start_node("n2")
    cluster.cancel_all()
    assert cluster.processes(job) == []


def test_a_failing_command_says_why(cluster: Cluster) -> None:
    with pytest.raises(RuntimeError, match=r"sbatch --partition=none.*invalid partition"):
        cluster.run("sbatch", "--partition=none", "--wrap", "true")
