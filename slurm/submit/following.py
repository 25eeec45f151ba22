"""`--after RUN`: a training that begins with another run's weights, and waits for that run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slurm.errors import SlurmError
from slurm.node.following import standing
from slurm.records import local_jobs, scheduler
from slurm.records.run_folder import RunFolder
from slurm.records.runs import one_run
from slurm.submit.executor import After
from slurm.submit.resources import Resources


@dataclass(frozen=True)
class Before:
    """The run that another one follows.

    name: its folder as it was typed; jobs: of it, that wait or run; cluster: of these jobs.
    """

    folder: RunFolder
    name: str
    jobs: tuple[str, ...]
    cluster: str

    @classmethod
    def find(cls, name: str, resources: Resources) -> Before:
        """Raises SlurmError for a run that has neither ended well nor a job that could bring it there."""
        folder = one_run(name)
        trainings = [job for job in folder.jobs() if job.kind == "train"]
        if resources.cluster == "local":
            working = [job.job for job in trainings if job.cluster == "local" and local_jobs.alive(job)]
        elif resources.cluster == "slurm":
            ours = [job.job for job in trainings if job.cluster == "slurm"]
            working = list(scheduler.queued(ours))
        else:
            working = []
        if not working and not folder.is_done():
            where = {"slurm": "SLURM's queue has no job of it", "local": "no job of it runs here"}
            raise SlurmError(
                f"{standing(folder, name)}, and {where.get(resources.cluster, 'nothing can be waited for')}: "
                f"python -m slurm resume {name}, and then this"
            )
        return cls(folder, name, tuple(working), resources.cluster)

    def dependency(self) -> After | None:
        """What SLURM sees to; on this machine the task itself waits."""
        return After(":".join(self.jobs)) if self.jobs and self.cluster == "slurm" else None

    def words(self, config: str, overrides: Sequence[str]) -> list[str]:
        """Options that let a training begin with this run, unless its file or options say with what."""
        section = _mapping(Path(config)).get("init")
        named = isinstance(section, dict) and section.get("from") is not None
        return [] if named or _types_beginning(overrides) else ["--init.from", self.name]

    def check(self, values: dict[str, Any], overrides: Sequence[str]) -> list[str]:
        """Options with which a complete configuration is to be checked besides.

        Checkpoints that are yet to come are not looked for: the run's configuration is, which must have the
        same network. Raises SlurmError for weights of another run that were not asked for by an option.
        """
        section = values["init"]
        if not self._holds(section["from"]):
            if _types_beginning(overrides):
                return []
            raise SlurmError(
                f"init.from is {section['from']}, and --after waits for {self.name}: give "
                f"-- --init.from {self.name}, or wait for the run that it is of"
            )
        if not self.jobs:
            return []
        path, known = self._config()
        keep = (known.get("checkpoint") or {}).get("keep")
        if isinstance(keep, int) and (section["average"] or 0) > keep:
            raise SlurmError(
                f"init.average is {section['average']}, and {self.name} keeps {keep} checkpoints: lower it, "
                f"or python -m slurm resume {self.name} -- --checkpoint.keep {section['average']}"
            )
        return ["--init.from", str(path) if known.get("model") else "null", "--init.average", "null"]

    def _holds(self, place: str) -> bool:
        """Whether `place` is the run, a checkpoint in it, or one where it keeps them elsewhere."""
        elsewhere = (self._config()[1].get("checkpoint") or {}).get("url")
        if elsewhere and place.startswith(elsewhere.rstrip("/")):
            return True
        return "://" not in place and Path(place).absolute().is_relative_to(self.folder.path)

    def _config(self) -> tuple[Path, dict[str, Any]]:
        """The run's configuration: as it runs, or as it waits; and in which file."""
        frozen = [Path(job.config) for job in self.folder.jobs() if job.kind == "train" and job.config]
        for path in (self.folder.path / "config.yaml", *reversed(frozen)):
            if found := _mapping(path):
                return path, found
        return self.folder.path / "config.yaml", {}


def _types_beginning(overrides: Sequence[str]) -> bool:
    return any(word.partition("=")[0] in ("--init", "--init.from") for word in overrides)


def _mapping(path: Path) -> dict[str, Any]:
    """What a YAML file holds; {} for none, and for one whose mistakes the training will name."""
    try:
        found = yaml.safe_load(path.read_text())
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
