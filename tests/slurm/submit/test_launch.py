"""What a job is given where it asks for GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from slurm.node import rendezvous
from slurm.records.run_folder import RunFolder
from slurm.submit.launch import Launch, with_cpus
from slurm.submit.resources import Resources


def launch(device: str = "auto", workers: int = 2) -> Launch:
    values: dict[str, Any] = {"train": {"device": device}, "data": {"workers": workers}}
    return Launch(RunFolder(Path("runs/first")), "", values, Path("frozen.yaml"))


@pytest.mark.parametrize(
    ("gpus", "device", "words"),
    [
        (8, "auto", ("--config", "frozen.yaml", "--train.device", "cuda")),
        (None, "auto", ("--config", "frozen.yaml")),
        (8, "cpu", ("--config", "frozen.yaml")),  # as asked
    ],
)
def test_a_job_with_gpus_trains_on_them_or_fails(gpus, device, words):
    training = launch(device).job(Resources(gpus_per_node=gpus)).training
    assert training.arguments == words


@pytest.mark.parametrize(("gpus", "ranks", "cpus"), [(8, None, 40), (None, 4, 12)])
def test_each_process_has_cpus_for_its_threads(gpus, ranks, cpus):
    asked = Resources(gpus_per_node=gpus, ranks_per_node=ranks)
    assert with_cpus(asked, [launch(), launch(workers=0)]).cpus_per_task == cpus
    assert with_cpus(Resources(cpus_per_task=7), [launch()]).cpus_per_task == 7


def test_nccl_takes_one_interface_and_none_whose_name_begins_like_it():
    assert rendezvous.network("eth1") == {
        "GLOO_SOCKET_IFNAME": "eth1", "NCCL_SOCKET_IFNAME": "=eth1", "TP_SOCKET_IFNAME": "eth1",
    }  # fmt: skip
