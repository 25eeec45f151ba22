"""A head that ranks share: learnt as by one process, whole in checkpoints, back on any number of ranks."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import start_ranks
from torch import nn

from eval.checkpoint.file import CheckpointError
from train.config.sections import OptimConfig, TrainConfig
from train.learner import Learner
from train.life import shards
from train.life.distributed import Process
from train.life.shards import gradient_norm, own_state
from train.losses import build_loss
from train.losses.aamsoftmax_subcentre import SubcentreAAMSoftmax
from train.losses.classes import Classes
from train.objectives import Supervised
from train.progress import Progress
from train.restore import restore

WORLD, SPEAKERS, SIZE, ROWS, STEPS = 3, 10, 6, 12, 3
RUNS = {
    "softmax": (TrainConfig(), OptimConfig(name="adam", clip=0.5, rates={"loss": 0.5})),
    "aamsoftmax_subcentre": (TrainConfig(accumulate=2, ema=0.9), OptimConfig(name="sgd", no_decay=True)),
}


def learner(loss: nn.Module, name: str, rank: int, world: int, **train: Any) -> Learner:
    network = nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, SIZE))
    objective = Supervised(network, loss, "fp32")  # type: ignore[arg-type]
    process = Process(rank, world, torch.device("cpu"))
    made = Learner(objective, ROWS // world, process, replace(RUNS[name][0], **train), RUNS[name][1])
    made.prepare(batch(0, rank, world))
    return made


def new(name: str, rank: int = 0, world: int = 1, **train: Any) -> Learner:
    torch.manual_seed(4)
    sizes = {"embedding_size": SIZE, "speakers": SPEAKERS, "utterances_per_speaker": 1}
    return learner(build_loss(name, {}, **sizes, sharded=world > 1), name, rank, world, **train)


def share_of_four(rank: int) -> Learner:
    """As on one of four ranks, without the others."""
    loss = SubcentreAAMSoftmax(SIZE, SPEAKERS, 1, Classes(SPEAKERS, rank, 4))
    objective = Supervised(new("softmax").objective.network, loss, "fp32")
    train, optim = RUNS["aamsoftmax_subcentre"]
    return Learner(objective, ROWS // 4, Process(rank, 4, torch.device("cpu")), train, optim)


def batch(step: int, rank: int, world: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    audio = torch.randn(ROWS, 8, generator=generator)
    label = torch.randint(SPEAKERS, (ROWS,), generator=generator)
    return {"audio": audio.chunk(world)[rank], "label": label.chunk(world)[rank]}


def learn(made: Learner, rank: int, world: int, first: int = 0) -> list[float]:
    """Loss of each step, as a mean over this rank's rows, then the norm of the last gradients."""
    told = []
    for step in range(first, first + STEPS):
        progress = Progress(step, 0, 0.0, STEPS)
        told.append(made.step(batch(step, rank, world), progress, 1e-2, lambda _: None).loss.item())
    return [*told, gradient_norm(made.objective).item()]


def plain(made: Learner) -> dict[str, Any]:
    """This process's own state, as it is."""
    return {**made.weights(), "optimizer": made.optimizer.state_dict()}


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=WORLD,
        timeout=timedelta(seconds=60),
    )
    shards._GATHERED = 100  # a row or so at a time
    for name in RUNS:
        made = new(name, rank, WORLD)
        told = learn(made, rank, WORLD)
        whole = {"step": STEPS, **made.state()}
        torch.save({"told": told, "own": plain(made), "whole": whole}, f"{folder}/{name} {rank}")
        box = [whole if rank == 0 else None]
        dist.broadcast_object_list(box)
        again = new(name, rank, WORLD)
        restore(box[0], "url", again)
        torch.save(plain(again), f"{folder}/{name} {rank} again")
    made = new("softmax", rank, WORLD, precision="fp16")
    before = copy.deepcopy(plain(made))
    if rank == 1:
        made.objective.loss.fc.bias.register_hook(lambda gradient: gradient * torch.inf)
    made.step(batch(0, rank, WORLD), Progress(0, 0, 0.0, STEPS), 1e-2, lambda _: None)
    torch.save({"moved": differences(before, plain(made)), **made.scale()}, f"{folder}/overflow {rank}")
    dist.barrier()
    dist.destroy_process_group()


def differences(first: Any, second: Any, bound: float = 0.0, at: str = "") -> list[str]:
    """Where two nested states differ by more than `bound`; not in the rates, which each step sets."""
    if at.endswith(".param_groups"):
        return []
    if isinstance(first, torch.Tensor):
        same = first.shape == second.shape and bool(((first - second).abs() <= bound).all())
        return [] if same else [at]
    if isinstance(first, dict):
        assert first.keys() == second.keys(), at
        return [one for key in first for one in differences(first[key], second[key], bound, f"{at}.{key}")]
    return [] if first == second else [at]


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    start_ranks(run_rank, WORLD, str(folder))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_ranks_learn_what_one_process_learns(learnt: Path, name: str) -> None:
    made = new(name)
    told = learn(made, 0, 1)
    ranks = [torch.load(learnt / f"{name} {rank}")["told"] for rank in range(WORLD)]
    assert len({each[-1] for each in ranks}) == 1
    means = [sum(values) / WORLD for values in zip(*ranks, strict=True)]
    assert means == pytest.approx(told, rel=1e-5)
    found = torch.load(learnt / f"{name} 0")["whole"]
    assert (
        differences(found, {"step": STEPS, **made.state()}, bound=1e-4 if name == "softmax" else 1e-5) == []
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_is_whole_and_each_rank_has_its_own_back(learnt: Path, name: str) -> None:
    whole = torch.load(learnt / f"{name} 0")["whole"]
    alone = new(name)
    restore(whole, "url", alone)
    assert differences({"step": STEPS, **alone.state()}, whole) == []
    for rank in range(WORLD):
        own = torch.load(learnt / f"{name} {rank}")["own"]
        assert differences(torch.load(learnt / f"{name} {rank} again"), own) == []
        for key, rows in own["loss"].items():
            each = len(whole["loss"][key]) // SPEAKERS
            first, last = Classes(SPEAKERS, rank, WORLD).bounds(rank)
            assert torch.equal(rows, whole["loss"][key][first * each : last * each])


def test_a_whole_one_goes_on_upon_another_number_of_ranks() -> None:
    alone = new("aamsoftmax_subcentre")
    learn(alone, 0, 1)
    whole, states = {"step": STEPS, **alone.state()}, []
    for rank in range(4):
        share = share_of_four(rank)
        restore(whole, "url", share)
        states.append(plain(share))
    assert torch.equal(torch.cat([one["loss"]["weight"] for one in states]), whole["loss"]["weight"])
    number = next(n for n, kept in whole["optimizer"]["state"].items() if len(kept["momentum_buffer"]) == 30)
    joined = [one["optimizer"]["state"][number]["momentum_buffer"] for one in states]
    assert torch.equal(torch.cat(joined), whole["optimizer"]["state"][number]["momentum_buffer"])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows[:-1], "field loss: the weights do not fit: 1 tensors differ, first 'weight'"),
        (lambda rows: rows.index_fill(0, torch.tensor([29]), torch.nan), "url: field loss: weight holds NaN"),
    ],
)
def test_what_does_not_fit_is_refused_by_every_rank(damage: Any, message: str) -> None:
    alone = new("aamsoftmax_subcentre")
    learn(alone, 0, 1)
    whole = {"step": STEPS, **alone.state()}
    whole["loss"]["weight"] = damage(whole["loss"]["weight"])
    with pytest.raises(CheckpointError, match=message):
        restore(whole, "url", share_of_four(0))


@pytest.mark.slow
def test_every_rank_skips_a_step_that_overflowed_in_the_shard_of_one(learnt: Path) -> None:
    for rank in range(WORLD):
        assert torch.load(learnt / f"overflow {rank}") == {"moved": [], "loss_scale": 65536.0 / 2}


def test_without_shards_nothing_is_copied() -> None:
    made = new("softmax")
    learn(made, 0, 1)
    state = made.state()
    assert state["loss"]["fc.weight"].data_ptr() == made.objective.loss.fc.weight.data_ptr()
    kept = own_state(state, "url", made.objective, made.optimizer)
    assert kept["loss"] is state["loss"]
    assert kept["optimizer"] is state["optimizer"]
