"""Seeding before every step."""

from __future__ import annotations

import torch

from train.seeding import seed_generators

CPU = torch.device("cpu")


def test_draws_are_those_of_torchs_own_seeding():
    torch.manual_seed(123)
    expected = torch.rand(5)
    torch.rand(3)
    seed_generators(123, CPU)
    assert torch.equal(torch.rand(5), expected)
