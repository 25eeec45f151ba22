"""Handing jobs to submitit's AutoExecutor: the same call for SLURM, this machine, and this process."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from slurm.errors import SlurmError
from slurm.programs import KNOWS_SAFE, SAFE, program
from slurm.submit.resources import Resources, refuse_control

Task = Callable[[], None]


@dataclass(frozen=True)
class After:
    """What a job waits for: the end of another job, or of all elements of an array.

    well: whether only a good end will do. A job that SLURM requeues has not ended.
    """

    job: str
    well: bool = True

    def __str__(self) -> str:
        """As sbatch's --dependency takes it."""
        return f"{'afterok' if self.well else 'afterany'}:{self.job}"


def check_chain(resources: Resources) -> None:
    """Raise SlurmError where one job cannot wait for another: to be asked before the first is submitted."""
    if resources.cluster == "local":
        raise SlurmError(
            "--cluster local starts every job at once, and none can wait for another: give --cluster debug, "
            "which runs one after the other in this very process"
        )


def submit(
    tasks: Sequence[Task],
    folder: Path,
    resources: Resources,
    *,
    name: str,
    after: After | None = None,
    parallel: int | None = None,
) -> list[str]:
    """Submit one job, or with several tasks one array of jobs; returns the ids, as squeue shows them.

    folder: for submitit's files and the logs, where every node sees it; parallel: at most so many
    elements of the array run at a time (default: all). With cluster debug, the job has been run when
    this returns. Raises SlurmError where it is refused.
    """
    if after is not None:
        check_chain(resources)
    executor = _executor(folder, resources, name, after, len(tasks), parallel)
    try:
        with _clean_environment():
            if resources.cluster == "debug":
                return [_run_here(executor, task) for task in tasks]
            if len(tasks) == 1:
                return [executor.submit(tasks[0]).job_id]
            with executor.batch():
                jobs = [executor.submit(task) for task in tasks]
            return [job.job_id for job in jobs]
    except submitit.core.utils.FailedJobError as error:
        raise SlurmError(f"sbatch refused the job: {_last_line(str(error))}") from None


def array_of(jobs: Sequence[str]) -> str:
    """The id that stands for all jobs of one submission: 12 for 12_0, 12_1, …"""
    array, _, element = jobs[0].partition("_")
    return array if element.isdigit() and array.isdigit() else jobs[0]


def sbatch_file(
    tasks: Sequence[Task],
    folder: Path,
    resources: Resources,
    *,
    name: str,
    after: After | None = None,
    parallel: int | None = None,
) -> str:
    """The text of the file that `submit` would hand to sbatch."""
    if resources.cluster != "slurm":
        raise SlurmError(
            f"--dry-run shows what sbatch would get; --cluster {resources.cluster} sends it nothing"
        )
    executor: Any = _executor(folder, resources, name, after, len(tasks), parallel)._executor
    if len(tasks) > 1:
        executor.parameters["map_count"] = len(tasks)
    text = str(executor._make_submission_file_text(executor._submitit_command_str, "dry-run"))
    return f"{_NOT_TO_BE_SENT}\n{text.strip()}\n"


def refuse_place(folder: Path) -> None:
    """Raise SlurmError for a folder whose path would be another one in a script."""
    refuse_control("the run folder's path", str(folder))
    if "%" in str(folder):
        raise SlurmError(
            f"the run folder {folder} has a % in its path, which SLURM and submitit read as a number to put "
            "in: give a folder without"
        )


def log_pattern(folder: Path, job: str) -> str:
    """Where the tasks of a job print: one file a node, under a pattern of paths."""
    return str(folder / f"{job}_*_log.out")


def _executor(
    folder: Path, resources: Resources, name: str, after: After | None, tasks: int, parallel: int | None
) -> submitit.AutoExecutor:
    cluster = resources.cluster
    refuse_control("the job's name", name)
    refuse_place(folder)
    resources.check()
    if cluster == "slurm" and (shutil.which("sbatch") is None or shutil.which("srun") is None):
        raise SlurmError(
            "sbatch and srun are not in PATH here: log in where SLURM's commands are installed, or give "
            "--cluster local to run on this machine"
        )
    extra = {"slurm_python": _ignoring_signals_at_first(python_of(resources))} if cluster == "slurm" else {}
    try:
        executor = submitit.AutoExecutor(folder, cluster=cluster, **extra)
    except OSError as error:
        raise SlurmError(f"{folder} cannot be made ({error.strerror}): give another run folder") from None
    executor.update_parameters(
        name=name, timeout_min=resources.time, nodes=resources.nodes, tasks_per_node=1, stderr_to_stdout=True
    )
    if resources.gpus_per_node:
        executor.update_parameters(gpus_per_node=resources.gpus_per_node)
    if resources.cpus_per_task:
        executor.update_parameters(cpus_per_task=resources.cpus_per_task)
    if cluster == "slurm":
        executor.update_parameters(**_slurm_parameters(resources, after, tasks, parallel))
    return executor


def _slurm_parameters(
    resources: Resources, after: After | None, tasks: int, parallel: int | None
) -> dict[str, Any]:
    # --kill-on-bad-exit: when the task of one node fails, those of the others must not wait for it.
    srun = ["--kill-on-bad-exit=1"]
    if resources.cpus_per_task:
        srun.append(f"--cpus-per-task={resources.cpus_per_task}")  # newer srun does not take sbatch's
    if resources.container:
        srun.append(f"--container-image={resources.container}")
        if resources.container_mounts:
            srun.append(f"--container-mounts={resources.container_mounts}")
    more: dict[str, Any] = {"requeue": True}
    for name in ("partition", "account", "qos", "constraint", "exclude", "reservation"):
        if getattr(resources, name) is not None:
            more[name] = getattr(resources, name)
    if resources.mem is not None:
        more["mem"] = f"{round(resources.mem * 1024)}M"
    for each in resources.sbatch:
        option, equals, value = each.partition("=")
        more[option] = value if equals else True
    if after is not None:  # what the user's own dependency was for has held since the first job of the chain
        more |= {"dependency": str(after), "kill-on-invalid-dep": "yes"}
    parameters = {
        "slurm_signal_delay_s": resources.signal_delay,
        "slurm_srun_args": srun,
        "slurm_additional_parameters": more,
        "slurm_wckey": "",
    }
    safe = [f"export {name}={value}" for name, value in SAFE.items()]
    parameters["slurm_setup"] = [*safe, *resources.setup]
    if tasks > 1:
        parameters["slurm_array_parallelism"] = min(parallel or tasks, tasks)
    return parameters


# Without a shebang in its first line sbatch refuses the file, instead of a job that fails.
_NOT_TO_BE_SENT = (
    "# To be looked at, not to be given to sbatch: it waits for a pickle that is written at submission."
    " Files to submit by hand: slurm/*.sbatch"
)

# submitit names a debug job by its address in memory, which the next one must not be given.
_debug_jobs: list[submitit.Job[Any]] = []


def _run_here(executor: submitit.AutoExecutor, task: Task) -> str:
    """submitit's debug executor runs a job when it is asked for its result."""
    job = executor.submit(task)
    _debug_jobs.append(job)
    try:
        job.result()
    except SystemExit as end:
        if end.code:
            raise SlurmError(f"the job ended with status {end.code}; its output is above") from None
    return str(job.job_id)


@contextlib.contextmanager
def _clean_environment() -> Iterator[None]:
    """A job that submits a job must not hand its own SLURM and submitit variables on."""
    if "SLURM_JOB_ID" not in os.environ:  # a user's SBATCH_PARTITION and the like count
        yield
        return
    config = os.environ.get("SLURM_CONF")
    with submitit.helpers.clean_env():
        if config is not None:  # says where SLURM is, not which job this is
            os.environ["SLURM_CONF"] = config
        yield


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return (errors or lines or ["no reason given"])[-1]


def _ignoring_signals_at_first(python: str) -> str:
    """A signal while Python starts must not end the task before it can put its job back into the queue.

    submitit puts "-u -m MODULE …" behind it.
    """
    if KNOWS_SAFE:
        return f"""bash -c 'trap "" TERM USR1 USR2; exec "$0" "$@"' {shlex.quote(python)}"""
    start = shlex.join(program("python", "module", knows_safe=False)[1:-1])
    return f"""bash -c 'trap "" TERM USR1 USR2; shift 2; exec "$0" -u {start} "$@"' {shlex.quote(python)}"""


def python_of(resources: Resources) -> str:
    """The Python that runs the job's commands."""
    return resources.python or sys.executable
