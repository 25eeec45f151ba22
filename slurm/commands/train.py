"""`python -m slurm train` and `resume`: a run as a job, and again, on as many nodes as wanted."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace

import yaml

from slurm.commands.eval import Evaluation, require_validation
from slurm.errors import SlurmError
from slurm.records.run_folder import RunFolder
from slurm.records.runs import shown_path
from slurm.submit import resources as options
from slurm.submit.executor import log_pattern, sbatch_file, submit
from slurm.submit.following import Before
from slurm.submit.launch import Launch, prepare, print_files, refuse_second, with_cpus
from slurm.submit.resources import Resources

_TRAIN = """\
examples:
  python -m slurm train --config configs/resnetse34l_aam.yaml --nodes 2 --gpus-per-node 8 --partition gpu \\
      --time 24:00:00 -- --data.url s3://bucket/voxceleb2 --run.folder runs/first
  python -m slurm train --config configs/resnetse34l_aam.yaml --gpus-per-node 8 --then-eval
  python -m slurm train --config configs/tiny.yaml --after runs/first -- --run.folder runs/second
  python -m slurm train --config configs/demo.yaml --cluster local --ranks-per-node 2
  python -m slurm train --config configs/demo.yaml --nodes 2 --dry-run      # the sbatch file, not sent

What stands after -- is for the training: every option of `python -m train`.
"""
_RESUME = """\
examples:
  python -m slurm resume runs/first                 # as it was submitted last
  python -m slurm resume runs/first --nodes 4       # on more nodes: the global batches stay the same
  python -m slurm resume runs/first -- --train.epochs 60
"""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    train = commands.add_parser(
        "train",
        help="a training as a job that survives preemption and time limits",
        description="Submit a training: on each node one torchrun. Preempted, out of time, or short of a "
        "node, it goes back into the queue and on from the very step it was at.",
        epilog=_TRAIN,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.add_argument("--config", required=True, metavar="YAML", help="the training's configuration")
    _add_after(train)
    _add_then_eval(train)
    options.add_options(train)
    train.set_defaults(run=_train)

    resume = commands.add_parser(
        "resume",
        help="submit a run again, perhaps on another number of nodes",
        description="Submit a run again, with the resources it had, except for those given here.",
        epilog=_RESUME,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    resume.add_argument("folder", metavar="RUN", help="the run's folder")
    _add_after(resume)
    _add_then_eval(resume)
    options.add_options(resume)
    resume.set_defaults(run=_resume)


def _add_after(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--after",
        metavar="RUN",
        help="begin when that run has reached its last step, with its weights (init.from, if it is not set); "
        "if it fails, not at all",
    )


def _add_then_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--then-eval",
        action="store_true",
        help="submit an evaluation too, of the best checkpoint on the configuration's validation trials, "
        "which starts when the training is done",
    )


def _train(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    resources = options.from_options(arguments)
    before = Before.find(arguments.after, resources) if arguments.after else None
    launch = prepare(arguments.config, overrides, resources, before)
    return _launch(arguments, launch, arguments.config, resources)


def _resume(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    folder = RunFolder(arguments.folder)
    jobs = [job for job in folder.jobs() if job.kind == "train"]
    if not jobs:
        raise SlurmError(f"{folder.path} has no job to go by: submit it with python -m slurm train")
    last = jobs[-1]
    assert last.config is not None
    recorded = (
        Resources.from_fields(last.resources) if last.resources else options.read_site(arguments.site)[0]
    )
    resources = options.from_options(arguments, recorded)
    # One that has begun has its weights, and needs the other run no longer.
    after = arguments.after or (None if folder.state() else last.follows)
    before = Before.find(after, resources) if after else None
    launch = prepare(last.config, (*last.overrides, *overrides), resources, before)
    if launch.folder.path.resolve() != folder.path.resolve():
        raise SlurmError(
            f"{last.config} is of the run {launch.folder.path}, not of {folder.path}: give "
            f"-- --run.folder {arguments.folder}, or submit it with python -m slurm train"
        )
    return _launch(arguments, launch, last.config, resources)


def _launch(arguments: argparse.Namespace, launch: Launch, config: str, resources: Resources) -> int:
    folder = launch.folder
    if arguments.then_eval:
        require_validation(
            launch.values, config, "set validation.trials and validation.data, or leave out --then-eval"
        )
    asked = with_cpus(resources, [launch])
    name = resources.name or folder.path.name
    task = launch.job(resources)
    after = launch.before.dependency() if launch.before else None
    evaluation = Evaluation(folder, str(folder.path), resources, f"{name}-eval", after="JOB")
    if arguments.dry_run:
        files = [("training", sbatch_file([task], folder.jobs_path, asked, name=name, after=after))]
        if arguments.then_eval:
            files.append(("evaluation, when JOB, the training, is done", evaluation.file()))
        print_files(files)
        return 0
    refuse_second(folder, ["train"], "give another --run.folder")
    if _is_finished(launch):
        print(_finished(folder))
        return 0
    launch.make_folder()
    [job] = submit([task], folder.jobs_path, asked, name=name, after=after)
    logs = log_pattern(folder.jobs_path, job)
    launch.note(job, logs, resources)
    print(f"job {job}: {name} on {resources.nodes} x {resources.ranks} ranks, run folder {folder.path}")
    print(f"logs: {logs}")
    if launch.before:
        print(f"begins {_when(launch.before)} with {launch.values['init']['from']}")
    if arguments.then_eval:
        replace(evaluation, after=job).submit()
    shown = shlex.quote(shown_path(folder.path))
    print(f"next: python -m slurm status {shown}   |   python -m slurm logs -f {shown}")
    return 0


def _when(before: Before) -> str:
    if not before.jobs:
        return f"at once, as {before.name} is done,"
    return f"when {before.name} is done (job {', '.join(before.jobs)}),"


def _is_finished(launch: Launch) -> bool:
    """Whether the run has done all the steps that it is asked for."""
    state = launch.folder.state()
    if not launch.folder.is_done():
        return False
    steps, epochs = launch.values["train"].get("steps"), launch.values["train"].get("epochs")
    if steps is not None:
        return bool(steps <= state["saved_step"])
    try:
        before = yaml.safe_load((launch.folder.path / "config.yaml").read_text())["train"].get("epochs")
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return False
    return before is not None and epochs is not None and bool(epochs <= before)


def _finished(folder: RunFolder) -> str:
    name = shlex.quote(shown_path(folder.path))
    return (
        f"{name} is finished, at step {folder.saved_step()}: nothing was submitted. To train on, ask for "
        f"more: python -m slurm resume {name} -- --train.steps N (or --train.epochs N); to begin anew, give "
        "another --run.folder"
    )
