from __future__ import annotations

import argparse

import pytest

from eval import processes


@pytest.mark.parametrize(("rank", "said"), [(0, "invalid choice"), (1, "")])
def test_wrong_options_are_told_by_rank_0_alone(rank, said, monkeypatch, capsys):
    waited: list[float] = []
    monkeypatch.setattr(processes.time, "sleep", waited.append)
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29500")
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", choices=("cpu",))
    with pytest.raises(SystemExit):
        processes.parsed(parser, ["--device", "tpu"])
    error = capsys.readouterr().err
    assert said in error
    assert bool(error) == (rank == 0)
    assert bool(waited) == (rank == 1)  # torchrun would end rank 0 before it has spoken
