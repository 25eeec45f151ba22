"""The main job on a real SLURM: shards on S3, on two nodes, then one and two, to a report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cluster import Cluster
from jobs import attempts, finish, printed, reach, records, slurm, step, submit, until
from small_corpus import Corpus
from small_run import config

from shard_tools.pack.packing import PackOptions, pack

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.s3]

STEPS = 60
# Seconds before each step: what is asked of SLURM meanwhile takes as long, and each step is work for S3.
PACE = {"VOXSHARD_TESTS_PACE": "0.4"}


def stop(cluster: Cluster, job: str, run: Path) -> None:
    stopped = slurm(cluster, "cancel", str(run))
    assert stopped.returncode == 0, stopped.stderr
    assert finish(cluster, job, run) == "CANCELLED"
    until(lambda: not cluster.processes(job), "the end of the job's processes", run)


def test_from_s3_on_changing_numbers_of_nodes_to_a_report(
    cluster: Cluster, corpus: Corpus, s3_folder: str, tmp_path: Path
) -> None:
    for kind in ("wav", "noise", "rooms"):
        options = PackOptions(utterances_per_shard=30)
        pack(str(corpus.folder / kind), f"{s3_folder}/{kind}", options=options)
    run = tmp_path / "run"
    given = config(corpus, tmp_path / "config.yaml", steps=STEPS)
    where = [
        *("--data.url", f"{s3_folder}/wav"),
        *("--augment.noise.url", f"{s3_folder}/noise"),
        *("--augment.reverberation.url", f"{s3_folder}/rooms"),
        *("--checkpoint.url", f"{s3_folder}/checkpoints"),
        *("--validation.trials", str(corpus.trials), "--validation.data", f"{s3_folder}/wav"),
        *("--validation.every", "60"),
        *("--batch.speakers", "4"),  # a row is some requests, and each of them work for the S3 of the tests
        *("--run.folder", str(run)),
    ]
    size = ("--nodes", "2", "--ranks-per-node", "1")
    [job] = submit(cluster, "train", "--config", str(given), *size, "--", *where, **PACE)
    reach(run, 10)
    listed = slurm(cluster, "status", str(run))
    assert job in listed.stdout
    assert "running" in listed.stdout
    stop(cluster, job, run)

    [job] = submit(cluster, "resume", str(run), "--nodes", "1", **PACE)
    reach(run, step(run) + 10)  # beyond what the first did before it was stopped
    stop(cluster, job, run)

    training, evaluation = submit(cluster, "resume", str(run), "--nodes", "2", "--then-eval")
    assert finish(cluster, training, run) == "COMPLETED", printed(run)
    assert finish(cluster, evaluation, run) == "COMPLETED", printed(run)

    worlds = [len(attempt["nodes"]) for attempt in attempts(run)]
    assert worlds == [2, 1, 2]
    written = records(run / "metrics.jsonl")
    seen = [record["step"] for record in written if record["group"] == "train"]
    assert seen == list(range(1, STEPS + 1))
    [validated] = [record for record in written if record["group"] == "validation"]
    [report] = (run / "eval").glob("*/report.html")
    metrics = json.loads(report.with_name("metrics.json").read_text())
    assert metrics["checkpoint"].startswith(f"{s3_folder}/checkpoints/")
    assert metrics["eer"] == pytest.approx(validated["eer"], abs=0.005)

    done = slurm(cluster, "status", str(run))
    assert "done" in done.stdout
    said = slurm(cluster, "logs", str(run), "--job", training, "-n", "200")
    assert said.returncode == 0, said.stderr
    assert f"step {STEPS} of {STEPS}" in said.stdout
    assert "EER" in slurm(cluster, "logs", str(run), "--job", evaluation).stdout
