"""Networks against the VoxCeleb trainer's own: a training step and an embedding, as ratios from one run.

    git clone https://github.com/clovaai/voxceleb_trainer
    pip install --no-deps --target asteroid asteroid-filterbanks
    PYTHONPATH=asteroid python tests/bench/networks.py voxceleb_trainer

Each turn measures ours and theirs one after the other, in processes of their own (both have a package called
`models`), with the same threads; a ratio is theirs over ours, the median over turns. A step is forward,
backward and Adam's on batches of 64 x 2 s in float32; an embedding is of 16 x 4 s. Ours work as on CPUs they
do: freed memory is kept, Fast ResNet-34 trains with `train.channels_last` as its recipes say, and embeddings
are of weights in that order. What is timed is CPU time, so that others on the machine disturb it less; with
--wall it is the clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
NETWORKS = ("resnetse34l", "resnetse34v2", "rawnet3")
STEP = (64, 32000)
EMBEDDING = (16, 64000)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("trainer", type=Path, help="folder of a checkout of the VoxCeleb trainer")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--steps", type=int, default=3, help="steps of each turn, after one that is not counted"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--batch", type=int, default=STEP[0])
    parser.add_argument("--measure", nargs=2, metavar=("WHOSE", "NETWORK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure, args)))
        return
    for name in args.networks:
        found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for _ in range(args.turns):
            for whose, seconds in found.items():
                command = [sys.executable, __file__, *sys.argv[1:], "--measure", whose, name]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                seconds.append(json.loads(done.stdout.splitlines()[-1]))
        for what in ("step", "embedding"):
            pairs = zip(found["ours"], found["theirs"], strict=True)
            ratios = sorted(theirs[what] / ours[what] for ours, theirs in pairs)
            own = statistics.median(one[what] for one in found["ours"])
            print(
                f"{name:14} {what:10} {statistics.median(ratios):.2f} x as fast"
                f" ({ratios[0]:.2f} to {ratios[-1]:.2f}); ours {own:.3f} s"
                + ("" if args.wall else " of CPU"),
                flush=True,
            )


def measure(whose: str, name: str, args: argparse.Namespace) -> dict[str, float]:
    """Medians of seconds."""
    sys.path.insert(0, str(REPO if whose == "ours" else args.trainer.resolve()))
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    network = ours(name) if whose == "ours" else theirs(name)
    if whose == "ours":
        from shard_tools.heaps import keep_freed_memory

        keep_freed_memory()
        if name == "resnetse34l":
            from train.weight_gradients import by_products, products_are_quicker

            network.to(memory_format=torch.channels_last)
            if products_are_quicker():
                by_products(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    audio = 0.1 * torch.randn(args.batch, STEP[1])
    direction = torch.randn(args.batch, 512 if name != "rawnet3" else 256)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        (network(audio) * direction).mean().backward()
        optimizer.step()

    found = {"step": median_of(step, args)}
    network.eval()
    if whose == "ours":
        network.to(memory_format=torch.channels_last)
    speech = 0.1 * torch.randn(*EMBEDDING)
    with torch.no_grad():
        found["embedding"] = median_of(lambda: network(speech), args)
    return found


def median_of(work: Any, args: argparse.Namespace) -> float:
    clock = time.perf_counter if args.wall else time.process_time
    seconds = []
    for _ in range(args.steps + 1):
        began = clock()
        work()
        seconds.append(clock() - began)
    return statistics.median(seconds[1:])


def ours(name: str) -> Any:
    from models import build_network

    return build_network(name, {"pooling": "sap"} if name == "resnetse34l" else {})


def theirs(name: str) -> Any:
    import importlib

    if name == "resnetse34l":
        return importlib.import_module("models.ResNetSE34L").MainModel(
            nOut=512, encoder_type="SAP", n_mels=40
        )
    if name == "resnetse34v2":
        return importlib.import_module("models.ResNetSE34V2").MainModel(
            nOut=512, encoder_type="ASP", n_mels=64, log_input=True
        )
    return importlib.import_module("models.RawNet3").MainModel(nOut=256, encoder_type="ECA", sinc_stride=10)


if __name__ == "__main__":
    main()
