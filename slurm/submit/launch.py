"""A training made ready to be a job, and noted in its folder: what train, resume and sweep share."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from shard_tools.text import redacted
from slurm.errors import SlurmError
from slurm.node.training import Training
from slurm.records import scheduler
from slurm.records.run_folder import Job, RunFolder
from slurm.records.scheduler import Queued
from slurm.submit import train_config
from slurm.submit.executor import python_of, refuse_place
from slurm.submit.following import Before
from slurm.submit.job import TrainingJob
from slurm.submit.resources import Resources, refuse_control

_THREADS_WITH_GPU = 3  # of a rank, that want a CPU each


@dataclass(frozen=True)
class Launch:
    """text: the complete YAML, of which the job runs a copy in `frozen`; values: the same as a mapping.

    before: the run that it follows.
    """

    folder: RunFolder
    text: str
    values: dict[str, Any]
    frozen: Path
    before: Before | None = None

    def job(self, resources: Resources) -> TrainingJob:
        return TrainingJob(
            Training(
                str(self.folder.path),
                ("--config", str(self.frozen), *self._device(resources)),
                resources.ranks,
                interface=resources.interface,
                numa_binding=resources.numa_binding,
                signal_delay_s=resources.signal_delay,
                tries=resources.tries,
                python=python_of(resources),
                follows=self._follows(),
            )
        )

    def _device(self, resources: Resources) -> tuple[str, ...]:
        """A job that has GPUs must not train on CPUs without a word, where a node's driver is not found."""
        asked = self.values["train"]["device"]
        return ("--train.device", "cuda") if resources.gpus_per_node and asked == "auto" else ()

    def make_folder(self) -> None:
        """With the copy: what is edited while the job waits, or between two of its starts, is another run."""
        self.folder.make()
        self.frozen.write_text(self.text)

    def note(self, job: str, logs: str, resources: Resources) -> None:
        """Record the job in the run folder; resources: as asked for, so that `resume` may ask again."""
        self.folder.add_job(
            Job(
                job, "train", resources.nodes, resources.ranks, logs, resources.cluster, str(self.frozen),
                resources=resources.as_fields(), follows=self._follows(),
                after=":".join(self.before.jobs) or None if self.before else None,
            )
        )  # fmt: skip

    def _follows(self) -> str | None:
        return str(self.before.folder.path) if self.before else None


def prepare(
    config: str, overrides: Sequence[str], resources: Resources, before: Before | None = None
) -> Launch:
    """Raises SlurmError with the training's own words where the configuration is refused.

    Credentials are refused too.
    """
    refuse_secrets(overrides)
    ranks = resources.nodes * resources.ranks
    if before is None:
        text, values = train_config.complete(config, overrides, ranks)
    else:
        words = [*overrides, *before.words(config, overrides)]
        text, values = train_config.complete(
            config, words, ranks, lambda whole: before.check(whole, overrides)
        )
    folder = RunFolder(train_config.run_folder(values))
    refuse_place(folder.path)
    if before is not None and folder.path.resolve() == before.folder.path.resolve():
        raise SlurmError(f"--after {before.name} is the run itself: give another run.folder")
    frozen = folder.jobs_path / f"{time.strftime('%Y%m%d-%H%M%S')}.yaml"
    return Launch(folder, text, values, frozen, before)


def with_cpus(resources: Resources, launches: Sequence[Launch]) -> Resources:
    """Enough CPUs for every rank and its reading processes, unless it was said how many.

    A rank with a GPU has busy threads of NCCL, autograd and pinned memory besides.
    """
    if resources.cpus_per_task is not None:
        return resources
    reading = max(train_config.reading_processes(launch.values) for launch in launches)
    own = _THREADS_WITH_GPU if resources.gpus_per_node else 1
    return replace(resources, cpus_per_task=resources.ranks * (own + reading))


def in_queue(folders: Iterable[RunFolder], kinds: Sequence[str]) -> dict[str, Queued]:
    """Jobs of these kinds that wait or run, by id."""
    records = [job for folder in folders for job in folder.jobs()]
    return scheduler.queued(job.job for job in records if job.kind in kinds and job.cluster == "slurm")


def refuse_second(folder: RunFolder, kinds: Sequence[str], remedy: str) -> None:
    """Raise SlurmError where a job of these kinds is in the queue or running: two cannot share a folder."""
    for job in in_queue([folder], kinds).values():
        raise SlurmError(
            f"{folder.path} already has job {job.job} ({job.state}): python -m slurm cancel {folder.path}, "
            f"or {remedy}"
        )


def refuse_secrets(words: Iterable[str]) -> None:
    """Raise SlurmError for credentials in URLs, which a job's files would keep for all to read.

    And for control characters, which no option of ours has.
    """
    for word in words:
        if redacted(word) != word:
            raise SlurmError(
                f"{redacted(word)} holds credentials, which the job's files would keep: give them by AWS's "
                "environment or files"
            )
        refuse_control("an option of the job's command", word)


def in_full(place: str) -> str:
    """A path from the root of the file system; a URL as it is."""
    return place if "://" in place else str(Path(place).absolute())


def print_files(files: Sequence[tuple[str, str]]) -> None:
    """What --dry-run shows: (title, sbatch file) in the order of submission."""
    for number, (title, text) in enumerate(files, start=1):
        if len(files) > 1:
            print(f"# ---- {number} of {len(files)}: {title}")
        print(text, end="\n" if number < len(files) else "")
