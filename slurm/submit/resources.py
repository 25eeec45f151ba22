"""What a job asks of SLURM: from a site's YAML file, then from the command line, which wins."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_type_hints

import yaml

from shard_tools.errors import UserError
from shard_tools.text import has_control
from shard_tools.yaml_file import check_yaml_file
from slurm.errors import SlurmError

SITE_VARIABLE = "VOXSHARD_SITE"  # names a site's file, so that nobody has to type --site


@dataclass(frozen=True)
class Resources:
    """As sbatch's options of the same names, and a few of ours.

    Times in minutes, memory in GiB a node; None leaves it to the cluster.
    """

    cluster: str = "slurm"
    nodes: int = 1
    gpus_per_node: int | None = None
    ranks_per_node: int | None = None
    cpus_per_task: int | None = None
    mem: float | None = None
    time: int = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    reservation: str | None = None
    name: str | None = None
    setup: tuple[str, ...] = ()
    container: str | None = None
    container_mounts: str | None = None
    interface: str | None = None
    numa_binding: str | None = None
    python: str | None = None
    signal_delay: int = 120
    tries: int = 4
    sbatch: tuple[str, ...] = ()

    @property
    def ranks(self) -> int:
        """Processes a node: one a GPU, unless said otherwise."""
        return self.ranks_per_node or self.gpus_per_node or 1

    def check(self) -> None:
        """Raise SlurmError naming the first option that cannot be."""
        for name, most in _MOST.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:  # NaN is not
                raise SlurmError(f"--{name.replace('_', '-')} is {value:g}: give 1 to {most:,}")
        for name, value in asdict(self).items():
            for text in value if isinstance(value, tuple) else [value]:
                refuse_control(f"--{name.replace('_', '-')}", text)
        if self.cluster not in ("slurm", "local", "debug"):
            raise SlurmError(f"--cluster is {self.cluster!r}: give slurm, local or debug")
        if self.cluster != "slurm" and self.nodes > 1:
            raise SlurmError(f"--cluster {self.cluster} is one machine: --nodes {self.nodes} needs slurm")
        if self.numa_binding not in (None, *NUMA_BINDINGS):
            raise SlurmError(f"--numa-binding is {self.numa_binding!r}: give {', '.join(NUMA_BINDINGS)}")
        if self.numa_binding and not self.gpus_per_node:
            raise SlurmError("--numa-binding is for ranks with GPUs: give --gpus-per-node too")
        if self.signal_delay < 30:
            raise SlurmError(
                f"--signal-delay is {self.signal_delay} s: give at least 30, for a step and a checkpoint"
            )
        if self.signal_delay >= self.time * 60:
            raise SlurmError(
                f"--signal-delay {self.signal_delay} s is not less than --time {self.time} min: "
                "the job would be told to stop as it starts"
            )
        for each in self.sbatch:
            if not re.fullmatch(r"[a-z-]+(=.*)?", each):
                raise SlurmError(f"--sbatch {each!r}: give NAME=VALUE or NAME, as in sbatch's long options")

    def as_fields(self) -> dict[str, Any]:
        """For JSON; `from_fields` takes it back."""
        return asdict(self)

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> Resources:
        return cls().updated(values, "the record of the job")

    def updated(self, values: Mapping[str, Any], origin: str) -> Resources:
        """With `values` in place of the own ones. Raises SlurmError for unknown names and wrong types."""
        kinds = get_type_hints(Resources)
        taken: dict[str, Any] = {}
        for given, value in values.items():
            name = str(given).replace("-", "_")
            if name not in kinds:
                known = ", ".join(field.name for field in fields(Resources))
                raise SlurmError(f"{origin}: there is no option {given!r}; the options are {known}")
            taken[name] = _converted(name, value, kinds[name], origin)
        return replace(self, **taken)


_MOST = {
    "nodes": 100_000,
    "gpus_per_node": 1024,
    "ranks_per_node": 4096,
    "cpus_per_task": 65_536,
    "mem": 1_000_000,  # GiB
    "time": 10 * 366 * 1440,  # minutes
    "tries": 1000,
    "signal_delay": 86_400,  # seconds
}


def refuse_control(name: str, text: object) -> None:
    """Raise SlurmError for text that would not stay on its line of a script: bash would run the next one."""
    if isinstance(text, str) and has_control(text):
        raise SlurmError(
            f"{name} holds a line end or another control character: {text[:100]!r}; leave it out"
        )


def _converted(name: str, value: Any, kind: Any, origin: str) -> Any:
    if value is None or value in ("", "null", "~"):
        return None
    for each in value if isinstance(value, (list, tuple)) else [value]:
        refuse_control(f"{origin}: {name}", each)
    if name == "time":
        return minutes(value, origin)
    if isinstance(value, dict) or (isinstance(value, (list, tuple)) and name not in ("setup", "sbatch")):
        raise SlurmError(f"{origin}: {name} is {str(value)[:100]!r}: give one value")
    if name in ("setup", "sbatch"):
        if not all(isinstance(each, str) for each in ([value] if isinstance(value, str) else value)):
            raise SlurmError(f"{origin}: {name} is {str(value)[:100]!r}: give lines of text")
        return tuple(str(each) for each in ([value] if isinstance(value, str) else value))
    wanted = next(each for each in (int, float, str) if each is kind or each in getattr(kind, "__args__", ()))
    try:
        if isinstance(value, bool):
            raise ValueError
        return wanted(value)
    except (TypeError, ValueError):
        raise SlurmError(f"{origin}: {name} is {str(value)[:100]!r}, not {_NAMES[wanted]}") from None


_NAMES = {int: "a whole number", float: "a number", str: "text"}


def minutes(value: Any, origin: str) -> int:
    """Minutes of SLURM's ways to write a time: 90, 24:00:00, 1-12:00:00, 1-12; seconds are rounded up."""
    text = str(value).strip()[:100]
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        raise SlurmError(f"{origin}: time is {text!r}: give minutes, H:MM:SS or D-HH:MM:SS")
    days, *rest = found.groups()
    first, second, third = (int(each or 0) for each in rest)
    if days is not None:
        seconds = ((int(days) * 24 + first) * 60 + second) * 60 + third
    elif found[4] is not None:
        seconds = (first * 60 + second) * 60 + third
    else:
        seconds = first * 60 + second  # minutes, or minutes:seconds
    return max(1, -(-seconds // 60))


def read_site(path: str | None) -> tuple[Resources, str | None]:
    """The defaults of a site, and the file they came from: `path`, or what VOXSHARD_SITE names, or none."""
    path = path or os.environ.get(SITE_VARIABLE)
    if path is None:
        return Resources(), None
    try:
        text = check_yaml_file(path)
    except UserError as error:
        raise SlurmError(f"{error} (from --site or {SITE_VARIABLE})") from None
    # Text alone: YAML itself takes 24:00:00 for a number of seconds.
    values = yaml.load(text, yaml.BaseLoader) or {}
    if not isinstance(values, dict):
        raise SlurmError(f"{path}: give one `option: value` a line")
    return Resources().updated(values, path), path


# Mean nothing to a job of one task.
ONE_TASK = ("--nodes", "--ranks-per-node", "--interface", "--numa-binding", "--tries")
NUMA_BINDINGS = ("node", "socket", "exclusive", "core-complex")


def add_options(parser: argparse.ArgumentParser, without: Collection[str] = ()) -> None:
    """Every option defaults to None here, so that a site's file can fill what was not typed.

    without: options that the command has no use for.
    """
    group = parser.add_argument_group("the job", "each may stand in the site's file, under its name here")

    def add(name: str, text: str, **more: Any) -> None:
        if name not in without:
            group.add_argument(name, help=text, **more)

    add("--site", f"a site's defaults (or the environment's {SITE_VARIABLE})", metavar="YAML")
    add(
        "--cluster",
        "local: on this machine, in the background; debug: in this very process (default: slurm)",
        choices=["slurm", "local", "debug"],
    )
    add("--nodes", "default: 1", type=int, metavar="N")
    add("--gpus-per-node", "one rank each", type=int, metavar="N")
    add("--ranks-per-node", "where there are no GPUs, or fewer ranks than GPUs", type=int, metavar="N")
    add(
        "--cpus-per-task",
        "of a node, for all that runs there (default: 4; of a training: ranks x (1 + data.workers))",
        type=int,
        metavar="N",
    )
    add("--mem", "memory of a node (default: the cluster's)", type=float, metavar="GIB")
    add(
        "--time",
        "minutes, H:MM:SS or D-HH:MM:SS of one start, after which the job goes back into the queue, and on "
        "(default: 1 hour)",
        metavar="TIME",
    )
    for name in ("partition", "account", "qos", "constraint", "exclude", "reservation"):
        add(f"--{name}", "as sbatch's")
    add("--name", "of the job in the queue (default: the run folder's)")
    add(
        "--setup",
        "shell line before the job starts, such as 'module load cuda'; may be given several times",
        action="append",
        metavar="LINE",
    )
    add(
        "--container",
        "run in this image, by pyxis; without scontrol in it, a job cannot requeue itself",
        metavar="IMAGE",
    )
    add("--container-mounts", "with --container", metavar="SRC:DST,...")
    add("--interface", "network interface of the ranks' traffic, such as ib0", metavar="NAME")
    add(
        "--numa-binding",
        "torchrun's: each rank, and what it starts, on the CPUs beside its GPU; needs numactl on the nodes",
        choices=NUMA_BINDINGS,
    )
    add("--python", "the Python of the nodes (default: the one that runs this)", metavar="PATH")
    add(
        "--signal-delay",
        "how long before the time limit the job is told to save and leave (default: 120)",
        type=int,
        metavar="SECONDS",
    )
    add(
        "--tries",
        "starts in a row without a new checkpoint after which a training gives up (default: 4)",
        type=int,
        metavar="N",
    )
    add(
        "--sbatch",
        "any other option of sbatch's; may be given several times",
        action="append",
        metavar="NAME=VALUE",
    )
    add("--dry-run", "print the sbatch file instead of sending it", action="store_true")


def of_one_task(resources: Resources, *, gpus: int = 0, cpus: int = 4) -> Resources:
    """For a job of a single task: at most so many GPUs, and `cpus` CPUs unless it was said how many."""
    return replace(
        resources,
        nodes=1,
        gpus_per_node=min(gpus, resources.gpus_per_node or 0) or None,
        ranks_per_node=None,
        numa_binding=None,
        cpus_per_task=resources.cpus_per_task or cpus,
    )


def smallest(resources: Resources) -> Resources:
    """For seconds of work on one CPU, in the same partition and for the same account."""
    memory = None if resources.mem is None else min(resources.mem, 2.0)
    small = replace(resources, cpus_per_task=1, mem=memory, time=10, signal_delay=60)
    return of_one_task(small)


def from_options(arguments: argparse.Namespace, before: Resources | None = None) -> Resources:
    """The command line's options over `before`, or over the site's. Raises SlurmError."""
    base = read_site(arguments.site)[0] if before is None else before
    names = [field.name for field in fields(Resources)]
    typed = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    resources = base.updated(typed, "the command line")
    resources.check()
    return resources
