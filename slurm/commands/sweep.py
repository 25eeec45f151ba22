"""`python -m slurm sweep`: a training for every combination of some values, and a table of what they gave."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import yaml
from tqdm import tqdm

from slurm.errors import SlurmError
from slurm.programs import program
from slurm.records.run_folder import Job, RunFolder
from slurm.records.runs import shown_path
from slurm.submit import resources as options
from slurm.submit.executor import After, array_of, check_chain, log_pattern, python_of, sbatch_file, submit
from slurm.submit.job import CommandJob
from slurm.submit.launch import Launch, in_queue, prepare, print_files, with_cpus
from slurm.submit.resources import Resources
from slurm.sweep import summary as sweep_summary
from slurm.sweep.folder import SweepFolder, SweepRun
from slurm.sweep.grid import combinations, parse_vary

_CHECKS = 4  # configurations that are checked at once: each starts a Python
_FEW = 4  # are checked without a progress bar
_EXAMPLES = """\
examples:
  python -m slurm sweep --config configs/resnetse34l_aam.yaml --folder runs/sweep --gpus-per-node 4 \\
      --vary optim.lr=0.001,0.0003 --vary loss.options.margin=0.1,0.2,0.3 -- --data.url s3://bucket/vox2
  python -m slurm sweep --config configs/demo.yaml --folder runs/speeds --vary 'augment.speed=[],[0.9,1.1]'
  python -m slurm sweep --summary runs/sweep        # how far they are, the lowest EER first

What stands after -- is for all of the trainings. The same command again submits what has stopped or
failed, and adds the runs of values that are new.
"""
Decision = Literal["new", "goes on", "is done", "is under way"]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "sweep",
        help="trainings for all combinations of some values",
        description="Submit a training for every combination of the values, as one array of jobs, each of "
        "which is requeued and resumed on its own; and a job that sums them up when all have ended.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="YAML", help="the configuration that all share")
    parser.add_argument("--folder", metavar="SWEEP", help="each run has a folder in it: NNN-key=value")
    parser.add_argument(
        "--vary",
        action="append",
        metavar="KEY=V1,V2,...",
        help="an option of the training, and the values it is to take; may be given several times",
    )
    parser.add_argument("--parallel", type=int, metavar="M", help="at most M run at a time (default: all)")
    parser.add_argument(
        "--summary",
        metavar="SWEEP",
        help="submit nothing: write SWEEP/summary.md and .json, and print the table",
    )
    options.add_options(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, overrides: Sequence[str]) -> int:
    wanted = {name: getattr(arguments, name) for name in ("config", "folder", "vary")}
    if arguments.summary is not None:
        given = [f"--{name}" for name, value in wanted.items() if value is not None]
        if given or overrides:
            raise SlurmError(
                f"--summary submits nothing: leave out {', '.join(given) or 'what stands after --'}"
            )
        return _summarise(SweepFolder(arguments.summary))
    missing = [f"--{name}" for name, value in wanted.items() if value is None]
    if missing:
        raise SlurmError(f"give {', '.join(missing)} (or --summary SWEEP, for the table of a sweep)")
    if arguments.parallel is not None and arguments.parallel < 1:
        raise SlurmError(f"--parallel is {arguments.parallel}: give at least 1")
    return _sweep(arguments, overrides, options.from_options(arguments))


def _summarise(folder: SweepFolder) -> int:
    if not folder.runs():
        raise SlurmError(f"{folder.path} holds no sweep (sweep.json): give the --folder of one")
    rows = sweep_summary.summarise(folder)
    print(sweep_summary.table(rows))
    sweep_summary.write(folder, rows)
    return 0


@dataclass(frozen=True)
class _Planned:
    """A run of the grid, its training, and what is to become of it."""

    run: SweepRun
    launch: Launch
    decision: Decision

    @property
    def submits(self) -> bool:
        return self.decision in ("new", "goes on")


def _sweep(arguments: argparse.Namespace, overrides: Sequence[str], resources: Resources) -> int:
    check_chain(resources)
    grid = parse_vary(arguments.vary)
    _refuse_twice(overrides, [*grid, "run.folder"])
    folder = SweepFolder(arguments.folder)
    runs = folder.add(combinations(grid))
    launches = _prepare_all(folder, runs, arguments.config, overrides, resources)
    planned = _plan(runs, launches)
    for each in planned:
        print(f"{'# ' if arguments.dry_run else ''}{each.run.name}: {each.decision}")
    todo = [each.launch for each in planned if each.submits]
    if todo:
        before = [_last_job(each.launch.folder) for each in planned if each.decision == "is under way"]
        _submit(arguments, folder, runs, todo, before, resources)
    else:
        print("nothing to submit")
    if not arguments.dry_run:
        print(f"next: python -m slurm sweep --summary {shlex.quote(shown_path(folder.path))}")
    return 0


def _refuse_twice(overrides: Sequence[str], keys: Sequence[str]) -> None:
    """Raise SlurmError where an option after -- would be overruled by the sweep's own."""
    for word in overrides:
        key = word.partition("=")[0].removeprefix("--")
        if word.startswith("--") and key in keys:
            remedy = "give --folder instead" if key == "run.folder" else "it is varied"
            raise SlurmError(f"{word} stands after --, where it has no effect ({remedy}): leave it out")


def _prepare_all(
    folder: SweepFolder,
    runs: Sequence[SweepRun],
    config: str,
    overrides: Sequence[str],
    resources: Resources,
) -> list[Launch]:
    """The trainings of the runs. Raises SlurmError, naming the run, for a configuration that is refused."""

    def one(run: SweepRun) -> Launch:
        own = [word for key, value in run.values.items() for word in (f"--{key}", value)]
        own += ["--run.folder", str(folder.folder_of(run).path)]
        try:
            launch = prepare(config, [*overrides, *own], resources)
            shared = launch.values["checkpoint"]["url"]
            if shared and "checkpoint.url" not in run.values:
                # Each run needs a place of its own, or they would resume each other's checkpoints.
                place = f"{str(shared).rstrip('/')}/{run.name}"
                launch = prepare(config, [*overrides, *own, "--checkpoint.url", place], resources)
            return launch
        except SlurmError as error:
            raise SlurmError(f"{run.name}: {error}") from None

    pool = ThreadPoolExecutor(_CHECKS)
    try:
        bar = tqdm(
            pool.map(one, runs),
            total=len(runs),
            desc="checking",
            unit="run",
            disable=True if len(runs) <= _FEW else None,
        )
        return list(bar)
    finally:
        pool.shutdown(cancel_futures=True)


def _plan(runs: Sequence[SweepRun], launches: Sequence[Launch]) -> list[_Planned]:
    """What is to become of each run, by its records and by SLURM's queue."""
    queued = in_queue([launch.folder for launch in launches], ["train"])

    def decide(launch: Launch) -> Decision:
        jobs = [job for job in launch.folder.jobs() if job.kind == "train"]
        if any(job.job in queued for job in jobs):
            return "is under way"
        if not jobs:
            return "new"
        # Done with another configuration, such as fewer steps, is not done.
        same = _values_of(jobs[-1]) == launch.values
        return "is done" if same and launch.folder.state().get("state") == "done" else "goes on"

    return [_Planned(run, launch, decide(launch)) for run, launch in zip(runs, launches, strict=True)]


def _values_of(job: Job) -> object:
    """The configuration a job was submitted with; None where it cannot be read any more."""
    try:
        with open(job.config or "", encoding="utf-8") as file:
            return yaml.safe_load(file)
    except (OSError, yaml.YAMLError):
        return None


def _last_job(folder: RunFolder) -> str:
    return [job.job for job in folder.jobs() if job.kind == "train"][-1]


def _submit(
    arguments: argparse.Namespace,
    folder: SweepFolder,
    runs: Sequence[SweepRun],
    todo: Sequence[Launch],
    before: Sequence[str],
    resources: Resources,
) -> None:
    """Submit the trainings and the job that sums up; before: jobs of other runs that it waits for too."""
    asked = with_cpus(resources, todo)
    name = resources.name or folder.path.name
    tasks = [launch.job(resources) for launch in todo]
    summary = CommandJob(program(python_of(resources), "slurm", "sweep", "--summary", str(folder.path)))
    small = options.smallest(resources)
    small_name = f"{name}-summary"
    if arguments.dry_run:
        training = sbatch_file(tasks, folder.jobs_path, asked, name=name, parallel=arguments.parallel)
        later = sbatch_file(
            [summary], folder.jobs_path, small, after=After("JOB", well=False), name=small_name
        )
        print_files([("trainings", training), ("summary, when all of JOB, the trainings, have ended", later)])
        return
    own = RunFolder(folder.path)  # of the summary's job
    own.make()
    folder.note(runs)
    for launch in todo:
        launch.make_folder()
    if resources.cluster == "debug":  # one by one, so that what has run is noted when the next one fails
        ids = []
        for launch, task in zip(todo, tasks, strict=True):
            ids += submit([task], folder.jobs_path, asked, name=name)
            launch.note(ids[-1], log_pattern(folder.jobs_path, ids[-1]), resources)
    else:
        ids = submit(tasks, folder.jobs_path, asked, name=name, parallel=arguments.parallel)
        for launch, job in zip(todo, ids, strict=True):
            launch.note(job, log_pattern(folder.jobs_path, job), resources)
    array = array_of(ids)
    runs_of = f"{len(todo)} trainings" if len(todo) > 1 else "1 training"
    print(f"job {array}: {runs_of} on {resources.nodes} x {resources.ranks} ranks each")
    waits = ":".join(dict.fromkeys([array, *(array_of([job]) for job in before)]))
    [job] = submit([summary], folder.jobs_path, small, after=After(waits, well=False), name=small_name)
    logs = log_pattern(folder.jobs_path, job)
    own.add_job(Job(job, "summary", 1, 1, logs, resources.cluster, resources=small.as_fields(), after=waits))
    print(f"job {job}: summary in {folder.path / 'summary.md'}, when all have ended")
    print(f"logs: {folder.jobs_path}/{array}_*_log.out")
