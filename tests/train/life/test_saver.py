"""Checkpoints are written while training goes on, one at a time, and none is lost silently."""

from __future__ import annotations

import threading

import pytest
import torch

from eval.checkpoint.file import read_checkpoint
from shard_tools.errors import UserError
from train.life.checkpoint import CheckpointFolder
from train.life.saver import Saver


def state(step, weight):
    return {"step": step, "config": {"model": {"name": "tdnn"}}, "network": {"w": weight}}


def test_what_changes_meanwhile_does_not_change_the_checkpoint(tmp_path, monkeypatch):
    folder, told, go = CheckpointFolder(str(tmp_path), 3), [], threading.Event()
    writes = folder.save
    monkeypatch.setattr(folder, "save", lambda state: (go.wait(60), writes(state)))
    saver = Saver(folder, True, told.append)
    weight = torch.ones(3)
    saver.save(state(1, weight))
    weight += 1  # the next step
    saver.poll()
    assert told == []
    assert not list(tmp_path.iterdir())
    go.set()
    saver.wait()
    assert told == [1]
    assert torch.equal(read_checkpoint(folder.url_of(1))["network"]["w"], torch.ones(3))
    saver.save(state(2, weight))
    saver.save(state(3, weight))  # waits for the one before
    assert told == [1, 2]
    saver.wait()
    assert folder.steps() == [1, 2, 3]


@pytest.mark.parametrize("background", [True, False])
def test_a_failure_to_write_is_raised_once_where_the_run_can_see_it(tmp_path, background):
    (tmp_path / "file").write_text("")
    told = []
    saver = Saver(CheckpointFolder(str(tmp_path / "file" / "below"), 3), background, told.append)

    def save():
        saver.save(state(1, torch.ones(1)))
        saver.wait()

    with pytest.raises(UserError, match="below"):
        save()
    saver.wait()
    assert told == []
