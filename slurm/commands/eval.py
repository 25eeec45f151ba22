"""`python -m slurm eval`: error rates of a run's checkpoint, as a job of one task on one node's GPUs."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slurm.errors import SlurmError
from slurm.programs import program, under_torchrun
from slurm.records.run_folder import Job, RunFolder
from slurm.records.runs import shown_path
from slurm.submit import resources as options
from slurm.submit.executor import After, log_pattern, python_of, sbatch_file, submit
from slurm.submit.job import CommandJob
from slurm.submit.launch import in_full, print_files, refuse_secrets
from slurm.submit.resources import Resources

_EXAMPLES = """\
examples:
  python -m slurm eval runs/first --gpus-per-node 1           # its best checkpoint, on its validation trials
  python -m slurm eval runs/first --gpus-per-node 8 -- --trials list_test_all2.txt --data s3://bucket/vox1 \\
      --out runs/first/eval/vox1-e
  python -m slurm eval runs/first --which newest -- --trials veri_test2.txt --data s3://bucket/vox1-test \\
      --out runs/first/eval/vox1-cleaned --crops 10 --scoring euclidean
  python -m slurm eval step-00002000.pt -- --trials veri_test2.txt --data shards/vox1 --out results
  python -m slurm eval runs/first --dry-run                   # the sbatch file, not sent

What stands after -- is for the evaluation: every option of `python -m eval`.
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "eval",
        help="error rates of a run's checkpoint, as a job",
        description="Submit an evaluation on one node: one GPU at most, unless --gpus-per-node is typed; "
        "these then embed together.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="RUN|CHECKPOINT", help="a run's folder, or a checkpoint")
    parser.add_argument(
        "--which", choices=("best", "newest"), help="of a folder's checkpoints (default: best)"
    )
    options.add_options(parser, without=options.ONE_TASK)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, rest: Sequence[str]) -> int:
    resources = options.from_options(arguments)
    refuse_secrets([arguments.checkpoint, *rest])
    target = in_full(arguments.checkpoint)
    if arguments.which and Path(target).is_file():
        raise SlurmError(
            f"--which chooses among the checkpoints of a folder, but {target} is a file: leave it out"
        )
    folder = _records(target, rest)
    more = [*(["--which", arguments.which] if arguments.which else []), *rest]
    # A site's file says how many GPUs a training has; one is enough for most lists.
    evaluation = Evaluation(
        folder, target, resources, resources.name, tuple(more), gpus=arguments.gpus_per_node or 1
    )
    if arguments.dry_run:
        print_files([("evaluation", evaluation.file())])
        return 0
    evaluation.submit()
    print(f"next: python -m slurm logs -f {shlex.quote(shown_path(folder.path))}")
    return 0


@dataclass(frozen=True)
class Evaluation:
    """A job that evaluates `target`, a run folder or checkpoint.

    folder: for records and logs; name: in the queue (None: the folder's and -eval); more: further
    arguments of `python -m eval`; after: a training job that must have ended well; gpus: at most so many of
    those that the resources have, with a rank each.
    """

    folder: RunFolder
    target: str
    resources: Resources
    name: str | None = None
    more: tuple[str, ...] = ()
    after: str | None = None
    gpus: int = 1

    def submit(self) -> str:
        """Submit it and say so; the job's id. Raises SlurmError."""
        asked = self._asked()
        jobs = self.folder.jobs_path
        self.folder.make()
        [job] = submit([self._task()], jobs, asked, name=self._name(), after=self._waits())
        logs = log_pattern(jobs, job)
        self.folder.add_job(
            Job(
                job, "eval", 1, 1, logs, asked.cluster, overrides=self.more, resources=asked.as_fields(),
                after=self.after,
            )
        )  # fmt: skip
        what = self.target if "://" in self.target else shown_path(Path(self.target))
        gpus = f"{asked.gpus_per_node or 'no'} GPU{'s' if asked.ranks > 1 else ''}"
        place = f"{gpus}, {asked.cpus_per_task} CPUs"
        waiting = f", when job {self.after} is done" if self.after else ""
        print(f"job {job}: evaluation of {what}, {place}{waiting}")
        print(f"logs: {logs}")
        return job

    def file(self) -> str:
        """The text of the file that `submit` would hand to sbatch."""
        asked = self._asked()
        jobs = self.folder.jobs_path
        return sbatch_file([self._task()], jobs, asked, name=self._name(), after=self._waits())

    def _task(self) -> CommandJob:
        python = python_of(self.resources)
        words = ("eval", self.target, *self.more, *self._device())
        command = program(python, *words)
        if (ranks := self._asked().ranks) > 1:
            launcher = (python, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
            command = (*launcher, *under_torchrun(python, words))
        if self._local and self.after:
            command = program(python, "slurm.submit.wait_local", self.after, str(self.folder.path), *command)
        return CommandJob(command)

    def _device(self) -> tuple[str, ...]:
        """A job that has a GPU must not embed on CPUs without a word, where a node's driver is not found."""
        said = _value(self.more, "--device") is not None
        return ("--device", "cuda") if self._asked().gpus_per_node and not said else ()

    def _asked(self) -> Resources:
        ranks = max(1, min(self.gpus, self.resources.gpus_per_node or 1))
        return options.of_one_task(self.resources, gpus=self.gpus, cpus=4 * ranks)

    @property
    def _local(self) -> bool:
        return self.resources.cluster == "local"

    def _name(self) -> str:
        return self.name or f"{self.folder.path.name}-eval"

    def _waits(self) -> After | None:
        """What SLURM sees to; on this machine the task itself waits."""
        return After(self.after) if self.after and not self._local else None


def require_validation(values: Mapping[str, Any], name: str, remedy: str) -> None:
    """Raise SlurmError where a complete configuration does not say what an evaluation is to use."""
    validation = values.get("validation") or {}
    missing = [key for key in ("trials", "data") if not validation.get(key)]
    if missing:
        raise SlurmError(
            f"{name} has no validation.{missing[0]}, so there is nothing to evaluate on: {remedy}"
        )


def _records(target: str, rest: Sequence[str]) -> RunFolder:
    """Where records and logs go: the run's folder, or that of the results. Raises SlurmError."""
    path = Path(target)
    if "://" not in target:
        if not path.exists():
            raise SlurmError(f"{target}: there is no such run or checkpoint")
        if (path / "config.yaml").is_file():
            if not {"--trials", "--data"} <= {word.partition("=")[0] for word in rest}:
                require_validation(_config(path / "config.yaml"), target, "give -- --trials FILE --data URL")
            return RunFolder(path)
        if (path / "jobs").is_dir():
            raise SlurmError(f"{target} has no config.yaml yet: wait until its training has begun")
    out = _value(rest, "--out")
    if out is None:
        raise SlurmError(f"{target} is not a run's folder: say where results go with -- --out FOLDER")
    return RunFolder(out if "://" not in out else Path("runs") / f"eval-{path.stem}")


def _config(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SlurmError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    return found if isinstance(found, dict) else {}


def _value(words: Sequence[str], option: str) -> str | None:
    """What follows the option, after a blank or a =."""
    for word, following in zip(words, [*words, None][1:], strict=True):
        name, equals, value = word.partition("=")
        if name == option:
            return value if equals else following
    return None
