"""Where this process stands in its job: which node of which, in which attempt."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from submitit.slurm.slurm import SlurmJobEnvironment

_LOCAL = "local-"  # before a number that is not one of SLURM's


@dataclass(frozen=True)
class Place:
    """One task a node.

    job: SLURM's number of the job (of the element, in an array), or a made-up one without SLURM;
    restart: how often the job was requeued before; node: 0 leads; nodes: their names.
    """

    job: str
    restart: int
    node: int
    nodes: tuple[str, ...]
    on_slurm: bool = True

    @property
    def attempt(self) -> str:
        return f"{self.job}.{self.restart}"

    @property
    def name(self) -> str:
        return self.nodes[self.node]

    @property
    def leads(self) -> bool:
        return self.node == 0

    @classmethod
    def of_this_process(cls) -> Place:
        """From SLURM's environment variables; without them, alone on this host."""
        job = os.environ.get("SLURM_JOB_ID")
        if job is None:
            job = f"{_LOCAL}{os.environ.get('SUBMITIT_LOCAL_JOB_ID') or os.getpid()}"
            return cls(job, 0, 0, (socket.gethostname(),), on_slurm=False)
        nodes = tuple(SlurmJobEnvironment().hostnames)
        node = int(os.environ.get("SLURM_NODEID", 0))
        return cls(job, int(os.environ.get("SLURM_RESTART_COUNT") or 0), node, nodes)

    @property
    def shown(self) -> str:
        """The job as it was called at submission: 12_3 for the third element of array 12."""
        if not self.on_slurm:
            return self.job.removeprefix(_LOCAL)
        array, element = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        return f"{array}_{element}" if array and element else self.job
