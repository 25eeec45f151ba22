"""Several processes learn exactly what one process with the whole batch learns."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from ranks import start_ranks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from train.losses import build_loss
from train.losses.classes import Classes
from train.progress import Progress

pytestmark = pytest.mark.slow

_SPEAKERS, _INPUTS, _SIZE = 8, 10, 6
_UTTERANCES = {
    "aamsoftmax": 3,
    "angleproto": 3,
    "ge2e": 3,
    "prototypical": 3,
    "softmaxproto": 3,
    "triplet": 2,
    "softmax": 1,
    "amsoftmax": 1,
    "aamsoftmax_subcentre": 3,
}
_SHARDED = ("softmax", "amsoftmax", "aamsoftmax", "aamsoftmax_subcentre")
_HEAD = 11  # speakers of a head: no number of ranks divides it, and of 4 some have fewer than the top 5


class Model(nn.Module):
    """A linear layer and a loss, as the trainer wraps a network and a loss."""

    def __init__(self, loss: str, sharded: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.linear = nn.Linear(_INPUTS, _SIZE)
        self.loss = build_loss(
            loss,
            {},
            embedding_size=_SIZE,
            speakers=_HEAD,
            utterances_per_speaker=_UTTERANCES[loss],
            sharded=sharded,
        )
        self.loss.begin(Progress(7, 0, 0.0, 10, seed=3))
        self.double()

    def forward(self, rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.loss(self.linear(rows), labels)


def batch(loss: str) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(6)
    each = _UTTERANCES[loss]
    return torch.randn(_SPEAKERS * each, _INPUTS).double(), torch.randperm(_HEAD)[
        :_SPEAKERS
    ].repeat_interleave(each)


def learn(model: nn.Module, rows: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    output = model(rows, labels)
    output.loss.backward()
    gradients = {name.removeprefix("module."): p.grad.clone() for name, p in model.named_parameters()}
    return {"loss": output.loss.detach(), "accuracy": output.accuracy, **gradients}


def learn_share(rank: int, world: int, loss: str, model: Model) -> dict[str, torch.Tensor]:
    """What this rank's share of the batch makes of its gradients; loss and accuracy as means over ranks."""
    rows, labels = batch(loss)
    share = len(rows) // world
    mine = slice(rank * share, (rank + 1) * share)
    found = learn(DistributedDataParallel(model), rows[mine], labels[mine])
    for key in ("loss", "accuracy"):
        dist.all_reduce(found[key])
        found[key] /= world
    return found


def run_rank(rank: int, world: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    results = {loss: learn_share(rank, world, loss, Model(loss)) for loss in _UTTERANCES}
    for loss in _SHARDED:
        model = Model(loss, sharded=True)
        names = [f"loss.{name}" for name, _ in model.loss.named_parameters()]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, names)
        results[f"{loss} sharded"] = learn_share(rank, world, loss, model)
    torch.save(results, f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [4, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_gradients_of_ranks_are_those_of_the_whole_batch(world: int, tmp_path: Path) -> None:
    start_ranks(run_rank, world, world, str(tmp_path))
    for rank in range(world):
        results = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert len(results) == len(_UTTERANCES) + len(_SHARDED)
        for name, found in results.items():
            loss, _, sharded = name.partition(" ")
            wanted = learn(Model(loss), *batch(loss))
            assert found.keys() == wanted.keys()
            for key in wanted:
                if sharded and key.startswith("loss."):
                    first, last = Classes(_HEAD, rank, world).bounds(rank)
                    each = len(wanted[key]) // _HEAD
                    wanted[key] = wanted[key][first * each : last * each]
                bound = 1e-6 if key == "accuracy" else 1e-12  # it is float32
                torch.testing.assert_close(found[key], wanted[key], rtol=0, atol=bound, msg=f"{name} {key}")
