from __future__ import annotations

import json

import pytest
import torch
import yaml

from eval.__main__ import main
from eval.checkpoint.find import checkpoint_folder, default_out, find_checkpoint, validation_of
from models.registry import build_network
from shard_tools import storage
from shard_tools.errors import UserError

TDNN = ("tdnn", {"channels": 16, "embedding_size": 16})


def make_run(run: str, *, steps=(10, 20), best: int | None = 10, elsewhere: str | None = None) -> str:
    """A run folder with empty checkpoints; returns the folder of these."""
    config = {"checkpoint": {"url": elsewhere}, "run": {"folder": "runs/where-it-was-once"}}
    storage.publish_bytes(storage.join(run, "config.yaml"), yaml.safe_dump(config).encode())
    folder = elsewhere or storage.join(run, "checkpoints")
    for step in steps:
        storage.publish_bytes(storage.join(folder, f"step-{step:08d}.pt"), b"")
    if best is not None:
        note = json.dumps({"step": best, "eer": 3.5, "checkpoint": f"step-{best:08d}.pt"})
        storage.publish_bytes(storage.join(folder, "best.json"), note.encode())
    return folder


@pytest.mark.parametrize("elsewhere", [None, "memory"])
@pytest.mark.parametrize(("which", "step"), [(None, 10), ("best", 10), ("newest", 20)])
def test_the_best_or_the_newest_of_a_run(tmp_path, which, step, elsewhere):
    run = str(tmp_path / "run")
    folder = make_run(run, elsewhere=elsewhere and f"memory://{tmp_path.name}/kept")
    found = find_checkpoint(run, which, pytest.fail)
    assert found.url == f"{folder}/step-{step:08d}.pt"
    assert default_out(found, step) == f"{run}/eval/step-{step:08d}"
    alone = find_checkpoint(folder, which, pytest.fail)
    assert (alone.url, alone.run) == (found.url, None)


@pytest.mark.slow
@pytest.mark.s3
def test_checkpoints_in_s3(s3_folder, tmp_path):
    run = str(tmp_path / "run")
    folder = make_run(run, elsewhere=f"{s3_folder}/kept")
    assert find_checkpoint(run, "best", pytest.fail).url == f"{folder}/step-00000010.pt"
    assert find_checkpoint(folder, "newest", pytest.fail).url == f"{folder}/step-00000020.pt"


def test_without_a_best_one_the_newest_is_taken_and_said(tmp_path):
    make_run(str(tmp_path), best=None)
    said: list[str] = []
    assert find_checkpoint(str(tmp_path), None, said.append).url.endswith("step-00000020.pt")
    assert len(said) == 1
    assert "taking the newest, step-00000020.pt" in said[0]


def test_a_best_one_that_is_gone_is_not_replaced_in_silence(tmp_path):
    make_run(str(tmp_path), best=15)
    with pytest.raises(UserError, match=r"step-00000015\.pt, is not there: give --which newest"):
        find_checkpoint(str(tmp_path), "best", pytest.fail)


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_checkpoint(str(tmp_path), None, pytest.fail)
    file = tmp_path / "mine.pt"
    file.touch()
    assert find_checkpoint(str(file), None, pytest.fail).url == str(file)
    with pytest.raises(UserError, match=r"--which best .* is a file"):
        find_checkpoint(str(file), "best", pytest.fail)
    (tmp_path / "config.yaml").write_text("- a\n")
    with pytest.raises(UserError, match="not the configuration of a training run"):
        checkpoint_folder(str(tmp_path))
    with pytest.raises(UserError, match=r"c\.pt: its run had no validation\.trials: give --trials"):
        validation_of({"validation": {"trials": None}}, "trials", "c.pt")
    with pytest.raises(UserError, match="give --out"):
        default_out(find_checkpoint(str(file), None, pytest.fail), 1)


@pytest.mark.slow
def test_a_run_is_evaluated_on_its_own_validation(tmp_path, voices, capsys):
    run = tmp_path / "run"
    make_run(str(run), best=None)
    validation = {"trials": str(voices.trials), "data": str(voices.folder)}
    torch.save(
        {
            "format": "voxshard-checkpoint",
            "version": 1,
            "step": 20,
            "config": {"model": {"name": TDNN[0], "options": TDNN[1]}, "validation": validation},
            "network": build_network(*TDNN).state_dict(),
        },
        run / "checkpoints" / "step-00000020.pt",
    )
    assert main([str(run), "--device", "cpu"]) == 0
    metrics = json.loads((run / "eval/step-00000020/metrics.json").read_text())
    assert metrics["trials"] == 66
    assert metrics["checkpoint"] == str(run / "checkpoints/step-00000020.pt")
    assert "taking the newest" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["local", "memory"])
@pytest.mark.parametrize(("last", "step"), [("best", 10), ("newest", 20)])
def test_a_url_may_say_which(tmp_path, place, last, step):
    run = str(tmp_path / "run") if place == "local" else f"memory://{tmp_path.name}/run"
    folder = make_run(run)
    for of in (run, folder):
        assert find_checkpoint(f"{of}/{last}", None, pytest.fail).url == f"{folder}/step-{step:08d}.pt"


def test_a_folder_called_best_is_a_folder(tmp_path):
    folder = make_run(str(tmp_path / "best"), best=None)
    assert find_checkpoint(str(tmp_path / "best"), "newest", pytest.fail).url == f"{folder}/step-00000020.pt"
    assert find_checkpoint(str(tmp_path / "no/best"), None, pytest.fail).url == str(tmp_path / "no/best")
