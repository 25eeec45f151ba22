"""Which device a process computes on, and how those of a job begin together, to evaluate or to train."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist

from shard_tools.errors import UserError
from shard_tools.launched import Launched, end_with_parent
from shard_tools.run_records import node_name

DEVICES = ("auto", "cpu", "cuda")


def device_of(name: str, local_rank: int = 0, *, option: str = "--device") -> torch.device:
    """What auto, cpu or cuda mean for process `local_rank` of its node; `option` is where it was said.

    Raises UserError for another name, and where there is no GPU to be had.
    """
    if name not in DEVICES:
        raise UserError(f"{option} is {name!r}: give {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(f"{option} is cuda, but torch finds no GPU here: set {option} to auto or cpu")
    count = torch.cuda.device_count()
    if local_rank >= count:
        raise UserError(
            f"process {local_rank} of this node has no GPU of its own ({count} found): "
            f"start torchrun with --nproc-per-node {count}, or set {option} to cpu"
        )
    return torch.device("cuda", local_rank)


def join_group(place: Launched, device: str, timeout: timedelta, *, option: str = "--device") -> torch.device:
    """Join the ranks that torchrun started, by NCCL on GPUs and gloo on CPUs; returns this one's device.

    This process ends with torchrun from now on. Raises UserError as `device_of` and `agree_on_device` do,
    and what torch raises where the others do not come.
    """
    chosen = device_of(device, place.local_rank, option=option)
    end_with_parent()
    store, rank, world = next(dist.rendezvous("env://", timeout=timeout))
    store.set_timeout(timeout)
    agree_on_device(dist.PrefixStore("voxshard", store), rank, world, chosen.type, option=option)
    on_gpu = chosen.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(chosen)
    dist.init_process_group(
        "nccl" if on_gpu else "gloo",
        store=dist.PrefixStore("default_pg", store),
        rank=rank,
        world_size=world,
        timeout=timeout,
        device_id=chosen if on_gpu else None,
    )
    return chosen


def agree_on_device(store: dist.Store, rank: int, world: int, kind: str, *, option: str = "--device") -> None:
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
            f"{option} is auto: torch finds no GPU on {without}, where other nodes have some: mend their "
            "driver (nvidia-smi there; torch's needs are in train/README.md), leave them out, or set "
            f"{option} to cpu"
        )
