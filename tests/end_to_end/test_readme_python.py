"""README's "From Python" runs as it is printed, and what it names is there."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from pathlib import Path

import pytest
import small_corpus
from checkpoints import write_checkpoint
from processes import answer
from project import REPO

PACKAGES = ("shard_tools.pack", "shard_tools.dataset", "shard_tools.read", "models", "train", "eval")


def section() -> str:
    return (REPO / "README.md").read_text().split("## From Python\n")[1].split("\n## ")[0]


@pytest.mark.slow
def test_the_section_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    small_corpus.make(tmp_path / "corpus")
    (tmp_path / "runs/first").mkdir(parents=True)
    write_checkpoint(tmp_path / "runs/first/step-00000042.pt")
    recordings = sorted((tmp_path / "corpus/wav").rglob("*.wav"))
    for name, recording in zip(("a.wav", "b.wav"), recordings, strict=False):
        shutil.copy(recording, tmp_path / name)
    code = "\n".join(line[4:] for line in section().splitlines() if line.startswith("    ") or not line)
    script = tmp_path / "script.py"
    script.write_text(code + "\nprint(batch['audio'].shape, batch['audio'].dtype, samples.dtype)\n")
    done = answer([sys.executable, str(script)])
    assert done.returncode == 0, done.stderr[-3000:]
    similarity, eer, shapes = done.stdout.splitlines()
    assert -1 <= float(similarity) <= 1
    assert 0 <= float(eer) <= 100
    assert shapes == "torch.Size([8, 32240]) torch.float32 int16"


def test_what_packages_export_is_there_and_what_is_named_is_exported() -> None:
    exported = {name for package in PACKAGES for name in importlib.import_module(package).__all__}
    for package in PACKAGES:
        module = importlib.import_module(package)
        assert all(getattr(module, name) is not None for name in module.__all__)
    text = section()
    imported = {name for line in re.findall(r"import (.*)", text) for name in line.split(", ")}
    below = text[text.index("`shard_tools.pack` has") :]
    named = {name for name in re.findall(r"`(\w+)`", below) if name not in ("eval", "models", "train")}
    assert imported | named <= exported
    results = {"IndexSummary", "MergeSummary", "PackSummary", "VerifySummary", "EvaluationResult"}
    assert exported - imported - named <= results | {
        "PackOptions",
        "Catalogue",
        "ReadError",
        "ModelError",
        "Trials",
    }
