"""A training's configuration, as the training itself fills it in: asked for by its command line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from slurm.errors import SlurmError
from slurm.programs import program

Besides = Callable[[dict[str, Any]], Sequence[str]]
"""A complete configuration → options that its check is to be asked with besides."""


def complete(
    config: str, overrides: Sequence[str], ranks: int, besides: Besides | None = None
) -> tuple[str, dict[str, Any]]:
    """The YAML text with every default filled in, and the same as a mapping of sections.

    Raises SlurmError with the training's own words for an unknown key, a wrong type, no such file, and
    whatever else so many ranks would fail at, as far as can be known here.
    """
    if not Path(config).is_file():
        raise SlurmError(f"--config {config}: there is no such file")
    checked = ("--check", str(ranks))
    if besides is None:  # each question starts a training's program, which takes seconds
        text = _asked(config, overrides, *checked, "--print_config")
        return text, yaml.safe_load(text)
    text = _asked(config, overrides, "--print_config")
    values = yaml.safe_load(text)
    _asked(config, [*overrides, *besides(values)], *checked)
    return text, values


def _asked(config: str, overrides: Sequence[str], *question: str) -> str:
    """What the training answers. Raises SlurmError with all that it says of a mistake."""
    command = program(sys.executable, "train", "--config", config, *overrides, *question)
    answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if answer.returncode:
        said = " ".join(answer.stderr.split())
        reason = said.rpartition("error: ")[2] or "no reason given"
        raise SlurmError(f"the configuration is refused: {reason}")
    return answer.stdout


def run_folder(values: dict[str, Any]) -> str:
    return str(values["run"]["folder"])


def reading_processes(values: dict[str, Any]) -> int:
    """Of each rank."""
    return int(values["data"]["workers"])
