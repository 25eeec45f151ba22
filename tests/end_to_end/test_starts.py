"""Every rank of every job starts these programs: what takes seconds to load is loaded by those who use it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from processes import finish, torchrun
from project import REPO
from small_corpus import make

pytestmark = pytest.mark.slow

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


def test_nor_does_a_run(tmp_path: Path) -> None:
    """Two ranks, to their end: torch's optimisers and DistributedDataParallel would load its compiler."""
    corpus = make(tmp_path)
    script = [str(REPO / "tests/helpers/loaded.py"), ",".join((*SLOW, "sympy", "triton")), "train"]
    options = {
        "data.url": corpus.wav,
        "data.crop_frames": "50",
        "batch.speakers": "8",
        "augment.noise.url": corpus.noise,
        "augment.reverberation.url": corpus.rooms,
        "model.name": "tdnn",
        "train.steps": "2",
        "train.accumulate": "2",
        "train.norm_rows": "2",
        "train.ema": "0.9",
        "optim.clip": "1",
        "validation.trials": str(corpus.trials),
        "validation.data": str(corpus.folder / "wav"),
        "run.folder": str(tmp_path / "run"),
    }
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    status, said = finish(torchrun(2, *script, *words), tmp_path / "log")
    assert status == 0, said
    assert [line for line in said.splitlines() if line.startswith("loaded:")] == ["loaded:"] * 2, said


def test_slurm_and_shards_do_without_torch_and_figures() -> None:
    code = (
        "import sys, slurm.__main__, shard_tools.cli, shard_tools.dataprep.cli;"
        " print(*[name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
