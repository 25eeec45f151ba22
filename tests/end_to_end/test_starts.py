"""Every rank of every job starts these programs: what takes seconds to load is loaded by those who use it."""

from __future__ import annotations

import subprocess
import sys

from project import REPO

SLOW = (
    "torch._dynamo",
    "scipy.signal",
    "transformers",
    "peft",
    "onnxruntime",
    "matplotlib",
    "wandb",
    "pandas",
)


def test_training_does_not_load_what_few_runs_need() -> None:
    code = f"import sys, train.__main__; print(*[m for m in {SLOW} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_slurm_and_shards_do_without_torch() -> None:
    code = (
        "import sys, slurm.__main__, shard_tools.cli, shard_tools.dataprep.cli; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
