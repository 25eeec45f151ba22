"""Packing and sweeps as their users start them, on a real SLURM."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from cluster import Cluster
from jobs import FORKED, finish, launched, reach, slurm, submit
from small_corpus import Corpus

from shard_tools.pack.packing import PackOptions, pack

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.exhaustive]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_array_packs_what_one_process_packs(cluster: Cluster, corpus: Corpus, tmp_path: Path) -> None:
    audio, alone, together = corpus.folder / "wav", tmp_path / "alone", tmp_path / "together"
    pack(str(audio), str(alone), options=PackOptions(utterances_per_shard=12))
    records = tmp_path / "records"
    words = ["shards", str(audio), str(together), "--parts", "3", "--cpus-per-task", "1"]
    words += ["--folder", str(records), "--", "--utterances-per-shard", "12"]
    _, merging = launched(slurm(cluster, *words))
    assert finish(cluster, merging, records) == "COMPLETED"
    assert len(list(alone.glob("*.tar"))) > 3
    assert contents(together) == contents(alone)


def test_a_second_stage_begins_when_the_first_is_done_and_not_when_it_failed(
    cluster: Cluster, corpus: Corpus, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    sections = {
        "data": {"url": corpus.wav, "crop_frames": 20, "workers": 0},
        "batch": {"speakers": 8},
        "model": {"name": "tdnn", "options": {"channels": 16, "embedding_size": 16}},
        "augment": {"speed": [0.9]},
        "train": {"steps": 100, "log_every": 1, "device": "cpu"},
        "checkpoint": {"every": 20},
    }
    config.write_text(yaml.safe_dump(sections))
    runs = {name: tmp_path / name for name in ("first", "second", "broken", "never")}

    def train(name: str, after: str | None, *more: str) -> str:
        words = ["train", "--config", str(config), *(["--after", str(runs[after])] if after else [])]
        [job] = submit(cluster, *words, "--", "--run.folder", str(runs[name]), *more)
        return job

    first = train("first", None)
    reach(runs["first"], 5)
    stage = ["--init.average", "2", "--augment.speed", "[]", "--train.steps", "2"]
    second = train("second", "first", *stage)
    assert cluster.state(second) == "PENDING"
    cluster.run("scontrol", "requeue", first)
    assert finish(cluster, first, runs["first"]) == "COMPLETED"
    assert finish(cluster, second, runs["second"]) == "COMPLETED"
    log = (runs["second"] / "log.txt").read_text()
    assert "is the mean of" in log
    assert "step-00000100.pt" in log
    assert "the loss's weights are kept" in log

    train("broken", None, "--train.steps", "100000")
    reach(runs["broken"], 5)
    never = train("never", "broken", *stage)
    assert slurm(cluster, "cancel", str(runs["broken"])).returncode == 0
    assert finish(cluster, never, runs["never"]) == "CANCELLED"
    assert not (runs["never"] / "state.json").exists()


@pytest.mark.exhaustive
def test_a_sweep_ends_in_a_table(cluster: Cluster, corpus: Corpus, tmp_path: Path) -> None:
    config, sweep = tmp_path / "config.yaml", tmp_path / "sweep"
    sections = {
        "data": {"url": corpus.wav, "crop_frames": 20, "workers": 0},
        "batch": {"speakers": 8},
        "model": {"name": "tdnn", "options": {"channels": 16, "embedding_size": 16}},
        "train": {"steps": 4, "log_every": 1, "device": "cpu"},
        "validation": {"trials": str(corpus.trials), "data": corpus.wav},
    }
    config.write_text(yaml.safe_dump(sections))
    words = ["sweep", "--config", str(config), "--folder", str(sweep), "--vary", "optim.lr=0.01,0.001"]
    trainings, summing = launched(slurm(cluster, *words, **FORKED))
    assert finish(cluster, summing, sweep) == "COMPLETED"
    assert cluster.state(f"{trainings}_1") == "COMPLETED"
    lines = (sweep / "summary.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert rows[0] == ["run", "optim.lr", "state", "step", "last loss", "best EER %"]
    assert sorted(row[:4] for row in rows[2:]) == [
        ["000-lr=0.01", "0.01", "done", "4"],
        ["001-lr=0.001", "0.001", "done", "4"],
    ]
    rates = [float(row[5]) for row in rows[2:]]
    assert rates == sorted(rates)
