"""A training's configuration, as the training itself fills it in: asked for by its command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from slurm.errors import SlurmError


def complete(config: str, overrides: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The YAML text with every default filled in, and the same as a mapping of sections.

    Raises SlurmError with the training's own words for an unknown key, a wrong type, or no such file.
    """
    if not Path(config).is_file():
        raise SlurmError(f"--config {config}: there is no such file")
    command = [sys.executable, "-m", "train", "--config", config, *overrides, "--print_config"]
    answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if answer.returncode:
        lines = [line.strip() for line in answer.stderr.splitlines() if line.strip()]
        told = [line for line in lines if "error:" in line] or lines[-1:] or ["no reason given"]
        raise SlurmError(f"the configuration is refused: {told[-1]}")
    values = yaml.safe_load(answer.stdout)
    return answer.stdout, values


def run_folder(values: dict[str, Any]) -> str:
    return str(values["run"]["folder"])


def reading_processes(values: dict[str, Any]) -> int:
    """Of each rank."""
    return int(values["data"]["workers"])
