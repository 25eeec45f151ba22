"""This process among the others of the job, and the few collectives that training needs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from shard_tools.errors import UserError
from shard_tools.launched import end_with_parent, launched
from shard_tools.run_records import node_name

# Long enough for rank 0 to write a checkpoint to a slow store while the others wait in an all-reduce.
TIMEOUT = timedelta(minutes=10)


Item = TypeVar("Item")


@dataclass(frozen=True)
class Process:
    rank: int
    world: int
    device: torch.device
    on_node: int = 1  # processes of the job on this node

    @property
    def leads(self) -> bool:
        """Rank 0 writes logs and checkpoints."""
        return self.rank == 0


@contextmanager
def process_group(device: str) -> Iterator[Process]:
    """Join the group that torchrun's environment describes, or stand alone without one.

    device: auto, cpu or cuda. NCCL serves GPUs, gloo CPUs. Raises UserError when cuda is
    asked for in vain, and for an environment that describes no job.
    """
    place = launched()
    chosen = _device(device, place.local_rank if place else 0)
    if place is None:
        yield Process(0, 1, chosen)
        return
    end_with_parent()
    store, rank, world = next(dist.rendezvous("env://", timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    agree_on_device(dist.PrefixStore("voxshard", store), rank, world, chosen.type)
    group = {
        "store": dist.PrefixStore("default_pg", store),
        "rank": rank,
        "world_size": world,
        "timeout": TIMEOUT,
    }
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
        dist.init_process_group("nccl", device_id=chosen, **group)
    else:
        dist.init_process_group("gloo", **group)
    yield Process(dist.get_rank(), dist.get_world_size(), chosen, place.on_node)
    # Not after a failure: it could wait for the others, who wait for this rank.
    dist.destroy_process_group()


def agree_on_device(store: dist.Store, rank: int, world: int, kind: str) -> None:
    """Raise UserError, on every rank, unless all found the same kind of device.

    Where a node's driver is too old for this torch, its ranks alone would take CPUs: they would wait for
    the others in gloo, and these for them in NCCL. kind: cpu or cuda, what this rank found.
    """
    store.set(f"device/{rank}", f"{kind} {node_name()}")
    if rank == 0:
        found = [store.get(f"device/{each}").decode().split(" ", 1) for each in range(world)]
        nodes = sorted({node for kind, node in found if kind == "cpu"})
        mixed = len({kind for kind, _ in found}) > 1
        store.set("devices", ", ".join(nodes) if mixed else "")
    without = store.get("devices").decode()
    if without:
        raise UserError(
            f"train.device is auto: torch finds no GPU on {without}, where other nodes have some: mend their "
            "driver (nvidia-smi there; torch's needs are in train/README.md), leave them out, or set "
            "train.device to cpu"
        )


def _device(name: str, local_rank: int) -> torch.device:
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("train.device is cuda, but torch finds no GPU here: set train.device to auto or cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise UserError(
            f"process {local_rank} of this node has no GPU of its own ({count} found): "
            f"start torchrun with --nproc-per-node {count}, or set train.device to cpu"
        )
    return torch.device("cuda", local_rank)


def mean_over_ranks(values: list[float], device: torch.device) -> list[float]:
    """The mean over ranks of each value."""
    if not dist.is_initialized():
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return [float(value) / dist.get_world_size() for value in total.cpu()]


def from_all(value: Item) -> list[Item]:
    """What each rank has, by rank; anything that can be pickled."""
    if not dist.is_initialized():
        return [value]
    box: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(box, value)
    return box


def from_lead(text: str | None) -> str | None:
    """Rank 0's text, on every rank."""
    if not dist.is_initialized():
        return text
    box = [text]
    dist.broadcast_object_list(box, src=0)
    return box[0]
