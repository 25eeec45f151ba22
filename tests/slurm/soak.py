"""Preempts one run many times, at random moments, and compares its end with a run that nobody disturbed.

    PYTHONPATH=tests/helpers:tests/slurm .venv/bin/python tests/slurm/soak.py --preemptions 20

Starts a SLURM of two nodes on this machine (root, slurm-wlm and munge are needed); half an hour or
so. Prints a line for each preemption and the verdict; exit status 1 where the weights differ.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import small_corpus
from cluster import Cluster
from jobs import (
    REPO,
    assert_same_weights,
    attempts,
    environment,
    final_state,
    finish,
    launched,
    records,
    restarted,
    slurm,
    step,
    until,
)
from small_run import config


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preemptions", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    chosen = parser.parse_args()
    rng = random.Random(chosen.seed)
    print(f"{chosen.preemptions} preemptions, seed {chosen.seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name, Cluster(Path(name) / "cluster") as cluster:
        folder = Path(name)
        # Enough steps that none of the preemptions finds the run at its end.
        given = config(
            small_corpus.make(folder / "corpus"), folder / "c.yaml", steps=200 * chosen.preemptions
        )
        run = folder / "run"
        size = ("--nodes", "2", "--ranks-per-node", "1", "--time", "600")
        [job] = launched(
            slurm(cluster, "train", "--config", str(given), *size, "--", "--run.folder", str(run))
        )
        for count in range(1, chosen.preemptions + 1):
            _preempt(cluster, job, run, rng, count)
        state = finish(cluster, job, run, timeout=1200)
        told = attempts(run)
        outcomes = [attempt.get("outcome") for attempt in told]
        print(f"{state} after {len(told)} starts: {', '.join(map(str, outcomes))}", flush=True)
        seen = [each["step"] for each in records(run / "metrics.jsonl") if each["group"] == "train"]
        assert seen == list(range(1, len(seen) + 1)), "a step is missing or there twice"
        _undisturbed(given, folder)
        assert_same_weights(final_state(run), final_state(folder / "whole"))
        print(f"the weights after {len(seen)} steps are the same; {time.monotonic() - began:.0f} s in all")
        return 0 if state == "COMPLETED" else 1


def _preempt(cluster: Cluster, job: str, run: Path, rng: random.Random, count: int) -> None:
    """At any moment: while the ranks start, in the midst of a step, or while a checkpoint is written."""
    time.sleep(rng.uniform(0, 25))
    before = step(run)
    cluster.run("sbatch", "-p", "urgent", "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    until(lambda: int(cluster.job(job)["Restarts"]) >= count, f"preemption {count}", run, timeout=180)
    restarted(cluster, job, run, count)
    print(f"preemption {count}: asked for at step {before}, restarted", flush=True)


def _undisturbed(given: Path, folder: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with open(os.devnull, "w") as nowhere:
        subprocess.run(
            [*launcher, "-m", "train", "--config", str(given), "--run.folder", str(folder / "whole")],
            cwd=REPO,
            env=environment(),
            stdout=nowhere,
            stderr=nowhere,
            check=True,
        )


if __name__ == "__main__":
    sys.exit(main())
