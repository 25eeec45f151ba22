"""Weights' gradients by matrix products: those of convolutions, in modules that are as they were else."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from models import build_network
from train import learner, weight_gradients
from train.config.sections import OptimConfig, TrainConfig
from train.learner import Learner
from train.life.distributed import Process
from train.losses import build_loss
from train.objectives import Supervised
from train.weight_gradients import by_products, weight_gradient

SIZES = st.integers(1, 6)


def channels_last(*shape, dtype=torch.float64, seed=0):
    values = torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


@settings(max_examples=50)
@given(
    count=st.integers(1, 9),
    inner=SIZES,
    outer=SIZES,
    height=SIZES,
    width=st.integers(1, 9),
    at_once=st.sampled_from([1, 4000, 1 << 20]),
    threads=st.integers(1, 3),
)
def test_it_is_the_gradient_of_a_convolution(count, inner, outer, height, width, at_once, threads):
    maps = channels_last(count, inner, height, width)
    gradient = channels_last(count, outer, height, width, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weight_gradients, "_AT_ONCE", at_once)
        patch.setattr(torch, "get_num_threads", lambda: threads)
        found = weight_gradient(maps, gradient)
    expected = nn.grad.conv2d_weight(maps, (outer, inner, 3, 3), gradient, padding=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def both(network):
    """The network in channels-last order, without and with it."""
    network = network.to(memory_format=torch.channels_last)
    changed = copy.deepcopy(network)
    by_products(changed)
    return network, changed


def count(network):
    return sum(isinstance(module, weight_gradients._Convolution) for module in network.modules())


def gradients(network, *inputs):
    network.zero_grad()
    network(*inputs).square().mean().backward()
    return [parameter.grad for parameter in network.parameters()]


def test_a_network_learns_the_same():
    """But for rounding: its gradients are no further from float64's than twice the usual ones."""
    torch.manual_seed(0)
    plain, changed = both(build_network("resnetse34l", {}))
    assert count(changed) == 24
    assert list(plain.state_dict()) == list(changed.state_dict())
    audio = 0.1 * torch.randn(4, 8000)
    assert torch.equal(plain(audio), changed(audio))
    exact = gradients(copy.deepcopy(plain).double(), audio.double())
    for truth, one, other in zip(exact, gradients(plain, audio), gradients(changed, audio), strict=True):
        assert (other - truth).norm() <= 2 * (one - truth).norm() + 1e-6 * truth.norm()


def test_its_operations_are_counted():
    counts = []
    for each in both(nn.Conv2d(32, 40, 3, padding=1, bias=False)):
        with FlopCounterMode(display=False) as counted:
            gradients(each, channels_last(5, 32, 6, 7, dtype=torch.float32))
        counts.append(counted.get_total_flops())
    assert counts == [2 * 2 * 9 * 32 * 40 * 5 * 6 * 7] * 2


def test_many_threads_take_no_more_memory_than_there_are_rows(monkeypatch):
    made = []

    class Noted(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, inputs=(), options=None):
            found = operation(*inputs, **(options or {}))
            made.extend(each.numel() for each in (found,) if isinstance(each, torch.Tensor))
            return found

    most = []
    for threads in (1, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        with Noted():
            weight_gradient(channels_last(2, 32, 4, 5), channels_last(2, 32, 4, 5))
        most.append(max(made))
        made.clear()
    assert most[1] <= 2 * most[0]


def test_only_what_gains_is_changed():
    others = [
        nn.Conv2d(32, 32, 3, padding=1),
        nn.Conv2d(32, 32, 3, padding=1, stride=2, bias=False),
        nn.Conv2d(32, 32, 3, bias=False),
        nn.Conv2d(32, 32, 5, padding=1, bias=False),
        nn.Conv2d(32, 32, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(32, 32, 3, padding=1, dilation=2, bias=False),
        nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect", bias=False),
        nn.Conv2d(32, 32, 3, padding="same", bias=False),
        nn.Conv2d(16, 32, 3, padding=1, bias=False),
        nn.Conv1d(32, 32, 3, padding=1, bias=False),
    ]
    network = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, bias=False), *others)
    by_products(network)
    assert count(network) == 1
    assert isinstance(network[0], weight_gradients._Convolution)


@pytest.fixture
def asked(monkeypatch):
    """The shapes of maps of which gradients were taken so."""
    shapes = []

    def note(maps, gradient):
        shapes.append(tuple(maps.shape))
        return weight_gradient(maps, gradient)

    monkeypatch.setattr(weight_gradients, "weight_gradient", note)
    return shapes


def test_what_else_comes_goes_the_usual_way(asked):
    plain, changed = both(nn.Conv2d(32, 32, 3, padding=1, bias=False))
    maps = channels_last(2, 32, 4, 5, dtype=torch.float32)
    assert torch.equal(*(gradients(each, maps.contiguous())[0] for each in (changed, plain)))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(*(gradients(each, maps)[0] for each in (changed, plain)))
    with torch.no_grad():
        changed(maps)
    assert torch.equal(*(gradients(each, maps[:0])[0].nan_to_num() for each in (changed, plain)))
    changed.weight.requires_grad_(False)
    inner = maps.clone().requires_grad_()
    changed(inner).sum().backward()
    assert inner.grad is not None
    assert asked == []


def test_the_maps_gradient_is_that_of_a_convolution(asked):
    plain, changed = both(nn.Conv2d(32, 40, 3, padding=1, bias=False))
    found = []
    for each in (plain, changed):
        maps = channels_last(3, 32, 4, 5, dtype=torch.float32).requires_grad_()
        each(maps).square().sum().backward()
        found.append(maps.grad)
    assert torch.equal(*found)
    torch.testing.assert_close(changed.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-3)
    assert asked == [(3, 32, 4, 5)]


@pytest.mark.parametrize(
    ("train", "quicker", "number"),
    [
        (TrainConfig(channels_last=True), True, 24),
        (TrainConfig(channels_last=True), False, 0),
        (TrainConfig(channels_last=True, compile=True), True, 0),
        (TrainConfig(), True, 0),
    ],
    ids=["quicker", "slower", "compiled", "in the usual order"],
)
def test_runs_train_so_where_it_is_quicker(monkeypatch, train, quicker, number):
    monkeypatch.setattr(learner, "products_are_quicker", lambda: quicker)
    loss = build_loss("softmax", {}, embedding_size=512, speakers=4, utterances_per_speaker=2)
    objective = Supervised(build_network("resnetse34l", {}), loss, "fp32")
    Learner(objective, 8, Process(0, 1, torch.device("cpu")), train, OptimConfig())
    assert count(objective.network) == number
