"""Where the network's tensors lie in the files of each program."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.convert.formats import find_tensors
from models.options import ModelError

NETWORK = {"conv1.weight": torch.ones(2), "fc.bias": torch.zeros(1)}
PREFIXED = {f"__S__.{name}": value for name, value in NETWORK.items()} | {"__L__.W": torch.ones(3)}


@pytest.mark.parametrize(
    ("content", "left_out"),
    [
        (NETWORK, []),  # wespeaker, 3D-Speaker
        (PREFIXED, ["__L__.W"]),  # the VoxCeleb trainer, long ago
        ({"model": NETWORK}, []),  # and the files that it gives away
        (
            {"model_state_dict": PREFIXED, "optimizer_state_dict": {"state": {}}, "epoch": 3},
            ["__L__.W"],
        ),  # today's
        ({"state_dict": NETWORK, "epoch": 3}, []),
        ({f"module.{name}": value for name, value in NETWORK.items()}, []),
        ({f"module.{name}": value for name, value in PREFIXED.items()}, ["__L__.W"]),
    ],
)
def test_tensors_are_found(content: dict[str, Any], left_out: list[str]) -> None:
    found = find_tensors(content)
    assert found.tensors == NETWORK
    assert found.left_out == left_out
    assert found.config is None


def test_redimnets_arguments_are_found() -> None:
    found = find_tensors({"model_config": {"F": 72}, "state_dict": NETWORK})
    assert (found.tensors, found.config) == (NETWORK, {"F": 72})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "an object of type list"),
        ({}, "an empty mapping"),
        ({"model": {}}, "an empty mapping"),
        (
            {"epoch": 3, "weights": NETWORK},
            r"more than tensors \('epoch', 'weights'\); looked for: a state_dict",
        ),
        (PREFIXED | {"other": torch.ones(1)}, "beside names with __S__. and __L__. there are others: other"),
        ({1: torch.ones(1)}, "more than tensors"),
    ],
)
def test_anything_else_is_said_to_be_so(content: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        find_tensors(content)
