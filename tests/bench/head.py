r"""What the classification head of very many speakers costs each process, whole and shared out.

    python tests/bench/head.py --speakers 1000000 --size 256 --optimizers adam sgd

A linear layer in the place of a network, AAM-softmax, two steps of a global batch of 64 rows, float32, CPUs
and gloo. A line for each: peak resident memory of the process that has most, above what it has
before the head is built; that of rank 0 once a checkpoint's state is put together, yet unwritten; seconds of
the second step. Whole heads need some 8 GiB a process at this size.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from train.config.sections import OptimConfig, TrainConfig
from train.learner import Learner
from train.life.distributed import Process
from train.losses import build_loss
from train.objectives import Supervised
from train.progress import Progress

GIB = 2**20  # in the KiB that the kernel counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speakers", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=256, help="of an embedding")
    parser.add_argument("--rows", type=int, default=64, help="of a global batch")
    parser.add_argument("--loss", default="aamsoftmax")
    parser.add_argument("--optimizers", nargs="+", default=["adam", "sgd"])
    parser.add_argument("--whole", nargs="*", type=int, default=[1], help="numbers of processes, unshared")
    parser.add_argument("--shared", nargs="*", type=int, default=[2, 4], help="numbers of processes, shared")
    args = parser.parse_args()
    print("| optimiser | head | processes | peak GiB | with a checkpoint | s a step |")
    print("|---|---|---|---|---|---|")
    for optimizer in args.optimizers:
        for shared, worlds in ((False, args.whole), (True, args.shared)):
            for world in worlds:
                print(line(optimizer, shared, world, args), flush=True)


def line(optimizer: str, shared: bool, world: int, args: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(measure, args=(world, optimizer, shared, args, folder), nprocs=world)
        ranks = [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(world)]
    peak, seconds = (max(rank[key] for rank in ranks) for key in ("peak", "seconds"))
    head = "shared" if shared else "whole"
    return f"| {optimizer} | {head} | {world} | {peak:.2f} | {ranks[0]['saving']:.2f} | {seconds:.1f} |"


def measure(
    rank: int, world: int, optimizer: str, shared: bool, args: argparse.Namespace, folder: str
) -> None:
    """One step of one process, whose numbers it leaves in a file of its own."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/rendezvous",
            rank=rank,
            world_size=world,
            timeout=timedelta(minutes=30),
        )
    before = peak()
    torch.manual_seed(0)
    network = nn.Linear(args.size, args.size)
    sizes = {"embedding_size": args.size, "speakers": args.speakers, "utterances_per_speaker": 1}
    loss = build_loss(args.loss, {}, **sizes, sharded=shared)
    process, rows = Process(rank, world, torch.device("cpu")), args.rows // world
    optim = OptimConfig(name=optimizer)
    learner = Learner(Supervised(network, loss, "fp32"), rows, process, TrainConfig(), optim)
    labels = torch.randint(args.speakers, (rows,), generator=torch.Generator().manual_seed(rank))
    batch = {"audio": torch.randn(rows, args.size), "label": labels}
    learner.prepare(batch)
    learner.step(batch, Progress(0, 0, 0.0, 2), 1e-3, lambda _: None)
    began = time.monotonic()  # the first one has made the optimiser's moments
    learner.step(batch, Progress(1, 0, 0.0, 2), 1e-3, lambda _: None)
    seconds, stepped = time.monotonic() - began, peak() - before
    state = learner.state()
    assert rank or sum(len(table) for table in state["loss"].values()) >= args.speakers
    found = {"peak": stepped, "saving": peak() - before, "seconds": seconds}
    (Path(folder) / str(rank)).write_text(json.dumps(found))
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


def peak() -> float:
    """GiB that this process has had in memory at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB


if __name__ == "__main__":
    main()
