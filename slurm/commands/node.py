"""`python -m slurm node` and `command`: what sbatch files of one's own start, in place of submitit."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from slurm.errors import SlurmError
from slurm.node.command import run_command
from slurm.node.place import Place
from slurm.node.training import Training, run_node
from slurm.records.run_folder import Job, RunFolder
from slurm.submit.executor import log_pattern
from slurm.submit.resources import NUMA_BINDINGS, Resources

_NODE = """\
example, in an sbatch file (slurm/train.sbatch is a whole one):
  srun --kill-on-bad-exit=1 --output=runs/first/jobs/%j_%t_log.out \\
      python -m slurm node runs/first --ranks-per-node 8 -- --config configs/resnetse34l_aam.yaml
"""
_COMMAND = """\
example, in an sbatch file:
  srun python -m slurm command -- make-shards pack DATA URL --part $SLURM_ARRAY_TASK_ID/16
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    default = Resources()
    node = commands.add_parser(
        "node",
        help="in an sbatch file: one node's part of a training",
        description="Run one node's part of a training, as one task a node of an sbatch file's srun; it "
        "saves and requeues its job when the job must leave.",
        epilog=_NODE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    node.add_argument("folder", metavar="RUN", help="the run's folder, which every node sees")
    node.add_argument("--ranks-per-node", type=int, default=1, metavar="N", help="one a GPU (default: 1)")
    node.add_argument(
        "--interface", metavar="NAME", help="network interface of the ranks' traffic, such as ib0"
    )
    node.add_argument(
        "--numa-binding",
        choices=NUMA_BINDINGS,
        help="torchrun's: each rank on the CPUs beside its GPU; needs numactl",
    )
    node.add_argument(
        "--signal-delay",
        type=int,
        default=default.signal_delay,
        metavar="SECONDS",
        help=f"as in sbatch's --signal=USR1@SECONDS (default: {default.signal_delay})",
    )
    node.add_argument(
        "--tries",
        type=int,
        default=default.tries,
        metavar="N",
        help=f"starts in a row without a new checkpoint (default: {default.tries})",
    )
    node.set_defaults(run=_node)

    command = commands.add_parser(
        "command",
        help="in an sbatch file: any other command, requeued when preempted",
        description="Run the command after --; preempted or out of time, its job is requeued.",
        epilog=_COMMAND,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=_command)


def _node(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if "--config" not in rest:
        raise SlurmError("give the training's --config FILE after --")
    if arguments.ranks_per_node < 1:
        raise SlurmError(f"--ranks-per-node is {arguments.ranks_per_node}: give at least 1")
    place = Place.of_this_process()
    folder = RunFolder(arguments.folder)
    if place.leads:
        folder.make()
        _record(folder, place, arguments, rest)
    training = Training(
        str(folder.path),
        (*rest, "--run.folder", str(folder.path)),
        arguments.ranks_per_node,
        interface=arguments.interface,
        numa_binding=arguments.numa_binding,
        signal_delay_s=arguments.signal_delay,
        tries=arguments.tries,
    )
    return run_node(training, place)


def _record(folder: RunFolder, place: Place, arguments: argparse.Namespace, rest: Sequence[str]) -> None:
    """So that status, logs, cancel and resume know of a job that they did not submit."""
    job = place.shown
    if any(known.job == job for known in folder.jobs()):
        return  # of an earlier start
    resources = Resources(
        nodes=len(place.nodes),
        ranks_per_node=arguments.ranks_per_node,
        interface=arguments.interface,
        numa_binding=arguments.numa_binding,
        signal_delay=arguments.signal_delay,
        tries=arguments.tries,
        partition=os.environ.get("SLURM_JOB_PARTITION"),
        account=os.environ.get("SLURM_JOB_ACCOUNT"),
        gpus_per_node=_number(os.environ.get("SLURM_GPUS_PER_NODE")),
        cpus_per_task=_number(os.environ.get("SLURM_CPUS_PER_TASK")),
    )
    position = rest.index("--config")
    folder.add_job(
        Job(
            job, "train", len(place.nodes), arguments.ranks_per_node, log_pattern(folder.jobs_path, job),
            config=os.path.abspath(rest[position + 1]),
            overrides=(*rest[:position], *rest[position + 2 :], "--run.folder", str(folder.path)),
            resources=resources.as_fields(),
        )
    )  # fmt: skip


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _command(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    if not rest:
        raise SlurmError("give the command after --")
    return run_command(rest, Place.of_this_process())
