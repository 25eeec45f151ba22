"""The "Your cluster in ten minutes", command by command as it is printed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import Cluster
from jobs import FORKED, PATIENCE_S, REPO, attempts, environment, finish, printed, reach, records

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


def commands() -> list[str]:
    section = (
        (REPO / "slurm/README.md").read_text().split("## Your cluster in ten minutes")[1].split("\n## ")[0]
    )
    return re.findall(r"^    (\S.*)$", section, flags=re.M)


def smaller(recipe: str, *numbers: str) -> str:
    """With a fifth of each."""
    for each in numbers:
        assert each in recipe
        name, value = each.split()
        recipe = recipe.replace(each, f"{name} {int(value) // 5}")
    return recipe


def test_the_section_does_what_it_says(cluster: Cluster, tmp_path: Path) -> None:
    """In a folder that looks like the project's, so that nothing is left in it; of a fifth of the steps."""
    (tmp_path / "configs").mkdir()
    recipe = (REPO / "configs/tiny.yaml").read_text()
    (tmp_path / "configs/tiny.yaml").write_text(smaller(recipe, "steps: 400", "every: 200", "every: 100"))
    (tmp_path / ".venv").symlink_to(sys.prefix)
    run = tmp_path / "runs/tiny/first"
    listed = commands()
    assert len(listed) == 10
    shown, fewer = "--speakers 60 --test-speakers 10", "--speakers 34 --test-speakers 4"
    assert shown in listed[1]
    listed[1] = listed[1].replace(shown, fewer)

    def start(command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-ec", f"{listed[0]}; {command}"],
            cwd=tmp_path,
            env=environment(cluster, **FORKED, VOXSHARD_TESTS_PACE="0.1"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    training = evaluation = said = ""
    for command in listed[1:]:
        if command.startswith("scontrol requeue"):
            reach(run, 20)  # "once it runs"
        if command.startswith("cat"):
            assert finish(cluster, evaluation, run) == "COMPLETED", printed(run)
        process = start(command)
        if "logs -f" in command:
            # Meanwhile the two minutes are cut short that SLURM lets a requeued job wait.
            assert finish(cluster, training, run) == "COMPLETED", printed(run)
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, f"{command}\n{said}"
        if "slurm train" in command:
            training, evaluation = re.findall(r"^job (\d+)", said, flags=re.M)
        if "logs -f" in command:
            assert "step 80 of 80" in said
    assert 0 <= json.loads(said)["eer"] <= 50
    assert [attempt["outcome"] for attempt in attempts(run)] == ["stopped", "done"]
    assert records(run / "metrics.jsonl")[-1]["step"] == 80
