"""What lies in a sweep's folder.

SWEEP/sweep.json    which runs there are, with which values
SWEEP/NNN-key=value a run's folder, as any other
SWEEP/jobs          logs of the array of jobs, and what submitit needs
SWEEP/summary.md, summary.json   what became of the runs
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from slurm.errors import SlurmError
from slurm.records.run_folder import RunFolder
from slurm.sweep.grid import run_name


@dataclass(frozen=True)
class SweepRun:
    """name: of its folder; values: what distinguishes it, as typed, by key."""

    name: str
    values: dict[str, str]


class SweepFolder:
    """Reads and writes the record."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.jobs_path = self.path / "jobs"
        self._record = self.path / "sweep.json"

    def runs(self) -> list[SweepRun]:
        """In the order of their numbers; [] without a record. Raises SlurmError for a broken one."""
        try:
            found = json.loads(self._record.read_text(encoding="utf-8"))
            return [SweepRun(str(run["name"]), dict(run["values"])) for run in found["runs"]]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SlurmError(f"{self._record} cannot be read ({error}): give another --folder") from None

    def add(self, combinations: Sequence[Mapping[str, str]]) -> list[SweepRun]:
        """The runs of these values, in their order: known ones, and others under the next numbers.

        Nothing is written yet.
        """
        known = self.runs()
        found = []
        for values in combinations:
            run = next((run for run in known if run.values == values), None)
            if run is None:
                run = SweepRun(run_name(len(known), values), dict(values))
                known.append(run)
            found.append(run)
        return found

    def note(self, runs: Sequence[SweepRun]) -> None:
        """Write the record: the runs known before, and these."""
        names = {run.name for run in runs}
        both = [*(run for run in self.runs() if run.name not in names), *runs]
        text = json.dumps({"runs": [asdict(run) for run in sorted(both, key=_number)]}, indent=1)
        self.publish("sweep.json", text + "\n")

    def folder_of(self, run: SweepRun) -> RunFolder:
        return RunFolder(self.path / run.name)

    def publish(self, name: str, text: str) -> None:
        """Write a file of the folder, whole or not at all. Raises SlurmError."""
        draft = self.path / f".{name}.{os.getpid()}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            draft.write_text(text, encoding="utf-8")
            draft.replace(self.path / name)
        except OSError as error:
            raise SlurmError(
                f"{self.path / name} cannot be written ({error.strerror}): free it, or give another --folder"
            ) from None


def _number(run: SweepRun) -> int:
    return int(run.name.partition("-")[0])
