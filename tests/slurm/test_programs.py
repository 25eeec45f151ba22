"""What jobs start is ours, whatever lies in the folder that they start in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm.programs import KNOWS_SAFE, SAFE, program, under_torchrun


@pytest.mark.slow
@pytest.mark.parametrize(
    "knows_safe", [False, pytest.param(True, marks=pytest.mark.skipif(not KNOWS_SAFE, reason=""))]
)
def test_a_module_of_the_current_folder_does_not_win(knows_safe: bool, tmp_path: Path) -> None:
    (tmp_path / "shard_tools.py").write_text("raise SystemExit('the wrong one')")
    command = program(sys.executable, "shard_tools.cli", "--version", knows_safe=knows_safe)
    unsafe = {name: value for name, value in os.environ.items() if name not in SAFE}
    environment = {**unsafe, **SAFE} if knows_safe else unsafe
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("voxshard"), done.stderr


def test_torchrun_starts_ranks_in_the_same_way() -> None:
    assert under_torchrun("python", ["train", "--x"], knows_safe=True) == ("-m", "train", "--x")
    old = under_torchrun("python", ["train", "--x"], knows_safe=False)
    assert old[:3] == ("--no-python", "python", "-c")
    assert old[-2:] == ("train", "--x")
