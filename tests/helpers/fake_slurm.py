"""SLURM's commands as scripts that note what they are given; job 17 is the first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_SBATCH = """\
#!/bin/sh
number=$(ls {folder}/sent | wc -l)
cp "$1" {folder}/sent/$((17 + number)).sh
echo "Submitted batch job $((17 + number))"
"""


class FakeSlurm:
    """On PATH as long as the test lasts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sent = folder / "sent"
        self._sent.mkdir(parents=True)
        self._queue = folder / "queue"
        self._queue.touch()
        scripts = {
            "sbatch": _SBATCH.format(folder=folder),
            "squeue": f"#!/bin/sh\ncat {self._queue}\n",
            "srun": "#!/bin/sh\nexit 1\n",
            "scontrol": "#!/bin/sh\nexit 1\n",
        }
        for name, text in scripts.items():
            script = folder / name
            script.write_text(text)
            script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def files(self) -> list[str]:
        """What was submitted, in order."""
        return [path.read_text() for path in sorted(self._sent.iterdir(), key=lambda path: int(path.stem))]

    def options(self, number: int) -> dict[str, str]:
        """The #SBATCH lines of job `number`, by option; "" for one without a value."""
        lines = (self._sent / f"{number}.sh").read_text().splitlines()
        pairs = [
            line.removeprefix("#SBATCH --").partition("=") for line in lines if line.startswith("#SBATCH")
        ]
        return {name: value for name, _, value in pairs}

    def queue(self, states: dict[str, str]) -> None:
        """What squeue answers from now on: states by job."""
        self._queue.write_text("".join(f"{job}|{state}|1|1:00|None\n" for job, state in states.items()))
