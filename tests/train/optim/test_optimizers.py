"""Each optimiser is torch's, keeps what it says, and has its parameters in groups by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from shard_tools.errors import UserError
from train.optim import build_optimizer, describe_optimizers
from train.optim.groups import freeze, parameter_groups, set_rates


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))


def stepped(optimizer, module, steps=3):
    for step in range(steps):
        optimizer.zero_grad()
        module(torch.full((5, 4), 0.3 + step)).square().sum().backward()
        optimizer.step()
    return module


@pytest.mark.parametrize(
    ("name", "options", "torchs"),
    [
        ("adam", {}, lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01)),
        (
            "adamw",
            {"beta2": 0.98},
            lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01, betas=(0.9, 0.98)),
        ),
        ("adam", {"fused": True}, lambda p: torch.optim.Adam(p, lr=0.1, weight_decay=0.01, fused=True)),
        (
            "sgd",
            {"nesterov": True},
            lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01, momentum=0.9, nesterov=True),
        ),
        ("sgd", {"momentum": 0}, lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.01)),
    ],
)
def test_it_does_what_torchs_does_and_keeps_what_it_says(name, options, torchs):
    made_by, ours, theirs = build_optimizer(name, options), network(), network()
    optimizer = made_by.make(parameter_groups(ours.named_parameters(), {}), lr=0.1, weight_decay=0.01)
    stepped(optimizer, ours)
    stepped(torchs(theirs.parameters()), theirs)
    for mine, reference in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, reference)
        kept = {key for key, value in optimizer.state[mine].items() if value is not None}
        assert kept == {*made_by.kept, *(["step"] if made_by.counts else [])}


def test_groups_have_rates_of_their_own():
    module = network()
    groups = parameter_groups(module.named_parameters(), {"0": 0.5, "0.bias": 0.0})
    assert [(group["name"], group["rate"], len(group["params"])) for group in groups] == [
        ("", 1.0, 2), ("0", 0.5, 1), ("0.bias", 0.0, 1),
    ]  # fmt: skip
    before = module[0].bias.clone()
    optimizer = build_optimizer("adam", {}).make(groups, lr=0.1, weight_decay=0.0)
    set_rates(optimizer.param_groups, 0.1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05, 0.0]
    stepped(optimizer, module)
    assert torch.equal(module[0].bias, before)


def test_a_name_that_nothing_has_is_refused():
    with pytest.raises(
        UserError, match=r"optim\.rates has '1', which .* parameters begin with 0\.weight, 0\.bias"
    ):
        parameter_groups(network().named_parameters(), {"1": 0.5})


def test_no_decay_spares_what_has_one_dimension():
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    groups = parameter_groups(module.named_parameters(), {"2": 0.5}, no_decay=True)
    found = [(group["name"], len(group["params"]), group.get("weight_decay")) for group in groups]
    assert found == [("", 1, None), ("", 3, 0.0), ("2", 1, None), ("2", 1, 0.0)]
    optimizer = build_optimizer("sgd", {"momentum": 0}).make(groups, lr=1.0, weight_decay=0.5)
    before = [parameter.clone() for parameter in module.parameters()]
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, old in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, 0.5 * old if parameter.dim() > 1 else old)


def test_what_is_frozen_is_in_no_group():
    module = network()
    freeze(module, ["0."])
    assert [len(group["params"]) for group in parameter_groups(module.named_parameters(), {})] == [2]


@pytest.mark.parametrize(
    ("beginnings", "message"),
    [
        (["3"], r"optim\.freeze has '3', which no .* parameters begin with 0\.weight, 0\.bias"),
        ([""], r"optim\.freeze has ''"),
        (["0", "2"], r"optim\.freeze \['0', '2'\] leaves nothing to train"),
    ],
)
def test_freezing_what_is_not_there_or_everything_is_refused(beginnings, message):
    with pytest.raises(UserError, match=message):
        freeze(network(), beginnings)


def test_options_are_described():
    assert "nesterov: true or false (default false)" in describe_optimizers()["sgd"]
