"""Ranks that found different kinds of devices all say so, before any waits for another in a collective."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch.distributed as dist

from eval.devices import agree_on_device, device_of
from shard_tools.errors import UserError


def said(kinds: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("VOXSHARD_NODE", "n7")
    store = dist.HashStore()

    def rank(number: int) -> str:
        try:
            agree_on_device(store, number, len(kinds), kinds[number], option="train.device")
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


@pytest.mark.parametrize("option", ["--device", "train.device"])
def test_no_gpu_names_the_option(option, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device_of("auto", option=option).type == "cpu"
    with pytest.raises(UserError, match=f"^{option} is cuda, but torch finds no GPU"):
        device_of("cuda", option=option)
    with pytest.raises(UserError, match=f"^{option} is 'gpu'"):
        device_of("gpu", option=option)


def test_each_process_of_a_node_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [device_of("auto", rank).index for rank in (0, 1)] == [0, 1]
    with pytest.raises(UserError, match="process 2 of this node has no GPU of its own"):
        device_of("cuda", 2)
