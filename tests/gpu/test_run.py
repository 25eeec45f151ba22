"""The script for machines with a GPU runs, and says no where there is none."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from processes import answer
from project import REPO

SCRIPT = [sys.executable, str(REPO / "tests/gpu/run.py")]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU: run tests/gpu/run.py itself"),
]


def test_without_a_gpu_it_is_a_line():
    refused = answer(SCRIPT)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)


@pytest.mark.exhaustive
def test_on_cpus_it_runs(tmp_path):
    out = tmp_path / "found.json"
    words = ["--device", "cpu", "--quick", "--only", "fp32", "diverged", "--out", str(out)]
    done = subprocess.run([*SCRIPT, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert all(check["ok"] for check in json.loads(out.read_text())["checks"].values())
