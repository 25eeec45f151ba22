"""However a global batch is shared out, over ranks or over pieces, the same is learnt from it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from ranks import start_ranks

from models.registry import build_network
from train.config.sections import OptimConfig, TrainConfig
from train.learner import Learner
from train.life.distributed import Process
from train.losses import build_loss
from train.objectives import Supervised
from train.progress import Progress
from train.restore import restore

SPEAKERS, EACH, SAMPLES, SIZE = 8, 2, 1760, 8
ROWS = SPEAKERS * EACH
NETWORKS: dict[str, dict[str, Any]] = {
    "resnet": {"depth": 18, "channels": 4, "n_mels": 16, "embedding_size": SIZE},
    "ecapa_tdnn": {"channels": 16, "embedding_size": SIZE, "n_mels": 16},
}
# With the steps that ranks are compared over; all were once, over 50: what is seen is seen in a few.
STEPS = {("resnet", "aamsoftmax"): 6, ("ecapa_tdnn", "aamsoftmax"): 2, ("resnet", "angleproto"): 4}
CASES = list(STEPS)


def learner(
    network: str,
    loss: str,
    train: TrainConfig,
    world: int = 1,
    rank: int = 0,
    kind: torch.dtype = torch.float64,
) -> Learner:
    torch.manual_seed(1)
    built = build_loss(loss, {}, embedding_size=SIZE, speakers=SPEAKERS, utterances_per_speaker=EACH)
    objective = Supervised(build_network(network, NETWORKS[network]), built, "fp32").to(kind)
    process = Process(rank, world, torch.device("cpu"))
    made = Learner(objective, ROWS // world, process, train, OptimConfig(lr=1e-3))
    made.prepare(batch(0, kind, rank, world))
    return made


def batch(step: int, kind: torch.dtype, rank: int = 0, world: int = 1) -> dict[str, torch.Tensor]:
    """A rank's rows of a global batch."""
    generator = torch.Generator().manual_seed(step)
    audio = torch.randn(ROWS, SAMPLES, generator=generator, dtype=torch.float64).to(kind) * 0.1
    label = torch.randperm(SPEAKERS, generator=generator).repeat_interleave(EACH)
    return {"audio": audio.chunk(world)[rank], "label": label.chunk(world)[rank]}


def learn(
    made: Learner, steps: int, kind: torch.dtype, rank: int = 0, world: int = 1
) -> dict[str, torch.Tensor]:
    """What a checkpoint would hold after so many steps, and the last step's gradients."""
    for step in range(steps):
        made.step(batch(step, kind, rank, world), Progress(step, 0, 0.0, steps), 1e-3, lambda _: None)
    state = {f"{part}.{name}": value for part, held in made.weights().items() for name, value in held.items()}
    gradients = {
        f"gradient {name}": parameter.grad
        for name, parameter in made.objective.named_parameters()
        if parameter.grad is not None
    }
    return {name: value.clone() for name, value in {**state, **gradients}.items()}


def check(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor], what: str) -> None:
    """In float64 each tensor to 1e-6 of its norm (of 1e-3, where all of it is tiny); in float32 the gradient.

    Of float32 all gradients together, to 1e-5 of their norm: single tensors differ by up to 1.1e-5. Its
    weights are not compared, because Adam's first step is the gradient's sign, which rounding turns around 0.
    """
    assert found.keys() == wanted.keys()
    pairs = {name: (found[name].double(), value.double()) for name, value in wanted.items()}
    if any(value.dtype is torch.float64 for value in wanted.values()):
        for name, (here, there) in pairs.items():
            assert float((here - there).norm()) <= 1e-6 * max(float(there.norm()), 1e-3), f"{what}: {name}"
        return
    gradients = [pair for name, pair in pairs.items() if name.startswith("gradient")]
    here, there = (torch.cat([part.flatten() for part in parts]) for parts in zip(*gradients, strict=True))
    assert float((here - there).norm()) <= 1e-5 * float(there.norm()), what


GHOST = TrainConfig(norm_rows=4)
SHARED = TrainConfig(sync_norm=True)


def cases(world: int) -> list[tuple[str, str]]:
    """Two ranks tell nothing of another network or loss that four do not tell."""
    return CASES if world == 4 else CASES[:1]


def run_rank(rank: int, folder: str) -> None:
    """Four ranks, then two of them: the groups of both by turns, so that processes start once."""
    torch.set_num_threads(1)
    for world in (4, 2):
        if rank >= world:
            return
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/rendezvous{world}",
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=120),
        )
        found = {}
        for case in cases(world):
            for name, train in (("ghost", GHOST), ("shared", SHARED)):
                steps = STEPS[case] if name == "ghost" else 2
                made = learner(*case, train, world, rank)
                found[f"{name} {case}"] = learn(made, steps, torch.float64, rank, world)
            if case == CASES[0]:
                made = learner(*case, GHOST, world, rank, torch.float32)
                found[f"first {case}"] = learn(made, 1, torch.float32, rank, world)
        torch.save(found, f"{folder}/{world}-{rank}.pt")
        dist.barrier()
        dist.destroy_process_group()


@pytest.mark.slow
def test_ranks_learn_what_one_process_learns(tmp_path: Path) -> None:
    context = start_ranks(run_rank, 4, str(tmp_path), join=False)
    wanted = {}
    for case in CASES:
        wanted[f"ghost {case}"] = learn(learner(*case, GHOST), STEPS[case], torch.float64)
        wanted[f"shared {case}"] = learn(learner(*case, TrainConfig()), 2, torch.float64)
    case = CASES[0]  # one tells what float32 is
    wanted[f"first {case}"] = learn(learner(*case, GHOST, kind=torch.float32), 1, torch.float32)
    while not context.join():
        pass
    for world in (4, 2):
        for rank in range(world):
            found = torch.load(tmp_path / f"{world}-{rank}.pt", weights_only=True)
            assert len(found) == 2 * len(cases(world)) + 1
            for name in found:
                check(found[name], wanted[name], f"{world} ranks, {name}")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_pieces_learn_what_the_whole_batch_teaches(case: tuple[str, str]) -> None:
    steps = min(3, STEPS[case])
    whole = learn(learner(*case, GHOST), steps, torch.float64)
    for pieces in (2, 4):
        parts = learn(learner(*case, replace(GHOST, accumulate=pieces)), steps, torch.float64)
        check(parts, whole, f"{pieces} pieces")
    first = learn(learner(*case, GHOST, kind=torch.float32), 1, torch.float32)
    pieces = learn(learner(*case, replace(GHOST, accumulate=4), kind=torch.float32), 1, torch.float32)
    check(pieces, first, "float32, the first step")


def test_what_is_frozen_does_not_move_nor_do_its_statistics() -> None:
    torch.manual_seed(1)
    loss = build_loss("aamsoftmax", {}, embedding_size=SIZE, speakers=SPEAKERS, utterances_per_speaker=EACH)
    objective = Supervised(build_network("resnet", NETWORKS["resnet"]), loss, "fp32")
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    optim = OptimConfig(lr=1e-2, freeze=["network.stages.0", "network.conv1", "network.bn1"])
    made = Learner(objective, ROWS, Process(0, 1, torch.device("cpu")), TrainConfig(norm_rows=8), optim)
    made.prepare(batch(0, torch.float32))
    learn(made, 2, torch.float32)
    moved = {name for name, value in objective.state_dict().items() if not torch.equal(value, before[name])}
    frozen = {name for name in before if name.startswith(tuple(optim.freeze))}
    assert any("running_mean" in name for name in frozen)
    assert not moved & frozen
    assert {".".join(name.split(".")[:3]) for name in moved} >= {"network.stages.1", "network.stages.3"}


@pytest.mark.slow
def test_fp16_goes_on_exactly_with_its_scale(tmp_path: Path) -> None:
    """On a CPU, where runs refuse it: the scaler and its state are the same."""

    def made() -> Learner:
        torch.manual_seed(1)
        loss = build_loss("softmax", {}, embedding_size=SIZE, speakers=SPEAKERS, utterances_per_speaker=EACH)
        objective = Supervised(build_network("ecapa_tdnn", NETWORKS["ecapa_tdnn"]), loss, "fp32")
        train, optim = TrainConfig(precision="fp16", ema=0.5), OptimConfig(clip=1.0)
        learner = Learner(objective, ROWS, Process(0, 1, torch.device("cpu")), train, optim)
        learner.prepare(batch(0, torch.float32))
        return learner

    def step(learner: Learner, number: int) -> None:
        weight = next(learner.objective.network.parameters())
        overflow = weight.register_hook(lambda gradient: gradient * (torch.inf if number == 1 else 1))
        learner.step(batch(number, torch.float32), Progress(number, 0, 0.0, 9), 1e-3, lambda _: None)
        overflow.remove()

    whole = made()
    for number in range(4):
        if number == 2:
            torch.save({"step": 2, **whole.state()}, tmp_path / "half.pt")
        step(whole, number)
    assert whole.scale() == {"loss_scale": 65536.0 / 2}
    other = made()
    restore(torch.load(tmp_path / "half.pt", weights_only=True), "half.pt", other)
    for number in (2, 3):
        step(other, number)
    assert other.scale() == whole.scale()
    first, second = whole.state(), other.state()
    for part in ("network", "trained", "loss"):
        for name, value in first[part].items():
            assert torch.equal(value, second[part][name]), name
