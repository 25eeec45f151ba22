"""A small share of `tests/abuse/run.py`: damaged files are refused in one line, or read right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


@pytest.mark.slow
@pytest.mark.parametrize(("trials", "seed"), [(2, 1), pytest.param(15, 0, marks=pytest.mark.exhaustive)])
def test_damaged_files_are_refused_in_a_line_or_read_right(trials: int, seed: int, tmp_path: Path) -> None:
    # In a process of its own, which forks: this one may have threads.
    words = [sys.executable, str(RUN), "--trials", str(trials), "--seed", str(seed), "--keep", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
