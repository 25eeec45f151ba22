"""The plain sbatch files, with their marked lines edited as a user would."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from cluster import Cluster
from jobs import FORKED, REPO, attempts, finish, printed, reach, restarted, slurm
from small_corpus import Corpus
from small_run import config

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def edited(name: str, folder: Path, **lines: str) -> Path:
    """A copy of slurm/NAME whose marked lines, named by how they begin, are replaced; all of them must be."""
    text = (REPO / "slurm" / name).read_text()
    marked = re.findall(r"^.* # edit.*$", text, flags=re.M)
    assert len(marked) == 5
    for line in marked:
        start = line.removeprefix("#SBATCH --")
        [new] = [value for key, value in lines.items() if start.startswith(key)]
        text = text.replace(line, new)
    path = folder / name
    path.write_text(text)
    return path


def project(folder: Path) -> None:
    """A folder that looks like the project's, so that nothing is left in it."""
    (folder / ".venv").symlink_to(sys.prefix)


def test_training_is_requeued_evaluated_and_watched_like_any_other(
    cluster: Cluster, corpus: Corpus, tmp_path: Path
) -> None:
    project(tmp_path)
    run = tmp_path / "runs/first"
    given = config(corpus, tmp_path / "config.yaml", steps=60)
    training = edited(
        "train.sbatch",
        tmp_path,
        job="#SBATCH --job-name=first --time=30",
        nodes="#SBATCH --nodes=2 --cpus-per-task=2",
        RUN="RUN=runs/first",
        RANKS="RANKS_PER_NODE=1",
        TRAINING=f"TRAINING=(--config {given})",
    )
    evaluation = edited(
        "eval.sbatch",
        tmp_path,
        job="#SBATCH --job-name=first-eval --time=10",
        gpus="#SBATCH --cpus-per-task=2",
        RUN="RUN=runs/first",
        TRIALS=f"TRIALS={corpus.trials}",
        DATA=f"DATA={corpus.folder}/wav",
    )
    chdir = f"--chdir={tmp_path}"
    forked = [f"{name}={value}" for name, value in FORKED.items()]
    job = cluster.run("env", *forked, "sbatch", "--parsable", chdir, str(training)).strip()
    then = cluster.run("sbatch", "--parsable", chdir, f"--dependency=afterok:{job}", str(evaluation)).strip()
    reach(run, 10)
    given.write_text("edited: meanwhile\n")
    cluster.run("scontrol", "requeue", job)
    restarted(cluster, job, run, 1)
    assert f" {job} " in slurm(cluster, "status", str(run), str(run)).stdout
    assert finish(cluster, job, run) == "COMPLETED", printed(run)
    assert [attempt["outcome"] for attempt in attempts(run)] == ["stopped", "done"]
    assert finish(cluster, then, run) == "COMPLETED"
    [metrics] = (run / "eval").glob("*/metrics.json")
    found = json.loads(metrics.read_text())
    assert (found["step"], found["trials"]) == (60, 66)
    assert 0 <= found["eer"] <= 100


def test_an_array_packs_and_a_merge_follows(cluster: Cluster, corpus: Corpus, tmp_path: Path) -> None:
    project(tmp_path)
    packing = edited(
        "make_shards.sbatch",
        tmp_path,
        job="#SBATCH --job-name=shards --time=10",
        array="#SBATCH --array=1-2 --cpus-per-task=1",
        PARTS="PARTS=2",
        WHAT=f"WHAT=({corpus.folder}/wav {tmp_path}/shards)",
        OPTIONS="OPTIONS=(--utterances-per-shard 30)",
    )
    chdir = f"--chdir={tmp_path}"
    job = cluster.run("sbatch", "--parsable", chdir, str(packing)).strip()
    merge = f".venv/bin/make-shards merge {tmp_path}/shards"
    after = f"--dependency=afterok:{job}"
    last = cluster.run("sbatch", "--parsable", chdir, after, "--output=merge.out", "--wrap", merge).strip()
    assert finish(cluster, last, tmp_path) == "COMPLETED"
    for path in Path(corpus.wav).iterdir():
        assert (tmp_path / "shards" / path.name).read_bytes() == path.read_bytes()
