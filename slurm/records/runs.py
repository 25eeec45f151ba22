"""Which folders are runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from slurm.errors import SlurmError
from slurm.records.run_folder import RunFolder

DEFAULT = "runs"
_DEPTH = 3  # below the folder given: runs/sweep/run, and one more
_JOBS = Path("jobs", "jobs.jsonl")
_OWN = ("jobs", "failures", "checkpoints")  # of a run: no runs below them


def is_run(path: Path) -> bool:
    return _trained(path) or (path / _JOBS).is_file()


def one_run(path: str) -> RunFolder:
    """Raises SlurmError where the folder is no run."""
    folder = Path(path)
    try:
        if is_run(folder):
            return RunFolder(folder)
    except OSError as error:
        raise SlurmError(f"{path}: cannot be looked into ({error.strerror})") from error
    found = list(_below(folder, _DEPTH))
    if found:
        raise SlurmError(f"{path} is no run, but a folder of {len(found)}: name the run, such as {found[0]}")
    raise SlurmError(f"{path} {_no_run(folder)}")


def find_runs(paths: Sequence[str]) -> list[RunFolder]:
    """The runs named, and those in the folders of runs that are named; by default, those below runs/.

    Raises SlurmError for a path that is neither.
    """
    found: dict[Path, None] = {}
    for each in paths or [DEFAULT]:
        path = Path(each)
        runs = list(_below(path, _DEPTH))
        if not runs:
            raise SlurmError(f"{each} {_no_run(path)}")
        found |= dict.fromkeys(runs)
    return [RunFolder(path) for path in found]


def shown_path(path: Path) -> str:
    """As the user would type it from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _trained(path: Path) -> bool:
    return (path / "state.json").is_file() or (path / "config.yaml").is_file()


def _no_run(path: Path) -> str:
    if not path.is_dir():
        return "is no folder: give a run's, or a folder of runs"
    return (
        "is no run, and there is none below it: a run has a config.yaml, a state.json or a jobs/jobs.jsonl. "
        "Give the run.folder of a training"
    )


def _below(path: Path, depth: int) -> Iterator[Path]:
    """`path` itself where it is a run; the jobs of a sweep may be noted above its runs, which count then.

    A folder that cannot be looked into is named on stderr: runs may lie below it.
    """
    try:
        if _trained(path):
            yield path
            return
        folders = _folders(path) if depth else []
        noted = (path / _JOBS).is_file()
    except OSError as error:
        print(f"slurm: {path}: passed over, cannot be looked into ({error.strerror})", file=sys.stderr)
        return
    inner = [run for folder in folders for run in _below(folder, depth - 1)]
    if inner:
        yield from inner
    elif noted:
        yield path


def _folders(path: Path) -> list[Path]:
    """Raises OSError where there may be some, but they cannot be listed."""
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [path / name for name in sorted(names) if name not in _OWN]
