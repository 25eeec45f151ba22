"""Ranks that found different kinds of devices all say so, before any waits for another in a collective."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from shard_tools.errors import UserError
from train.life.distributed import agree_on_device


def said(kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("VOXSHARD_NODE", "n7")
    store = dist.HashStore()

    def rank(number: int) -> str:
        try:
            agree_on_device(store, number, len(kinds), kinds[number])
        except UserError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(kinds)) as pool:
        return list(pool.map(rank, range(len(kinds))))


@pytest.mark.parametrize("kinds", [["cpu"], ["cuda", "cuda"], ["cpu"] * 3])
def test_ranks_with_one_kind_go_on(kinds, monkeypatch):
    assert said(kinds, monkeypatch) == [""] * len(kinds)


def test_a_node_without_a_driver_is_named_on_every_rank(monkeypatch):
    found = said(["cuda", "cpu", "cuda"], monkeypatch)
    assert len(set(found)) == 1
    assert found[0].startswith("train.device is auto: torch finds no GPU on n7, where other nodes have some")
