r"""Whether every network and every loss learns: 300 steps on real speech, the error rate before and after.

    make-shards pack /data/librispeech-mini/wav shards --list /data/librispeech-mini/lists/train_list.txt
    python tests/bench/learning.py shards /data/librispeech-mini/lists/veri_test.txt \
        /data/librispeech-mini/wav

Batches of 64 utterances, 2 s each (or --crop-frames), no augmentation. Networks with AAM-softmax; small
variants are named with their options. With --losses: Fast ResNet-34 with each loss, those that compare
utterances with 2 of each of 32 speakers. A line for each: parameters, EER of the random start, EER after,
seconds a step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]

NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "tdnn": ("tdnn", {}),
    "resnetse34l": ("resnetse34l", {}),
    "vggvox": ("vggvox", {}),
    "resnetse34v2, 8 channels": ("resnetse34v2", {"channels": 8}),
    "rawnet3, 128 channels, stride 16": ("rawnet3", {"channels": 128, "sinc_stride": 16}),
    "ecapa_tdnn, 64 channels": ("ecapa_tdnn", {"channels": 64}),
    "ecapa_speechbrain, 64 channels": ("ecapa_speechbrain", {"channels": 64}),
    "campplus, growth 8": ("campplus", {"channels": 32, "growth": 8}),
    "resnet 18, 8 channels": ("resnet", {"depth": 18, "channels": 8}),
    "simam_resnet, 8 channels": ("simam_resnet", {"channels": 8}),
    "eres2netv2, 8 channels": ("eres2netv2", {"channels": 8, "base_width": 32}),
    "redimnet, small": (
        "redimnet",
        {
            "n_mels": 40,
            "channels": 8,
            "stages": "1 1 1 20; 2 1 1 20; 2 2 1 10",
            "blocks": "resnet",
            "group_size": 1,
        },
    ),
    "redimnet2, small": (
        "redimnet2",
        {"n_mels": 40, "channels": 8, "stages": "1x1 1 1 3x3 20; 2x1 1 1 3x3 20; 2x2 2 1 3x3 10"},
    ),
}


LOSSES: dict[str, dict[str, Any]] = {
    "softmax": {},
    "amsoftmax": {"margin": 0.2, "scale": 30.0},
    "aamsoftmax": {"margin": 0.2, "scale": 30.0},
    "aamsoftmax_subcentre": {},
    "sphereface2": {},
    "angleproto": {},
    "ge2e": {},
    "prototypical": {},
    "triplet": {},
    "softmaxproto": {},
}
PAIRS = ("angleproto", "ge2e", "prototypical", "triplet", "softmaxproto")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shards", help="training shards")
    parser.add_argument("trials", help="trial list")
    parser.add_argument("data", help="folder or shards that the trial list's paths start from")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--losses", nargs="*", choices=LOSSES, metavar="NAME", help="of these; none: of all")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--crop-frames", type=int, default=200, help="of 10 ms")
    args = parser.parse_args()
    what = "network" if args.losses is None else "loss"
    print(f"| {what} | weights | EER before | EER after | s a step |\n|---|---|---|---|---|", flush=True)
    for name in args.networks if args.losses is None else args.losses or LOSSES:
        with tempfile.TemporaryDirectory() as folder:
            print(row(name, Path(folder) / "run", args), flush=True)


def row(name: str, run: Path, args: argparse.Namespace) -> str:
    network, options = NETWORKS["resnetse34l" if name in LOSSES else name]
    loss = name if name in LOSSES else "aamsoftmax"
    began = time.monotonic()
    train(network, options, loss, run, args)
    seconds = (time.monotonic() - began) / args.steps
    before, after = (error_rate(run, loss, step, args) for step in (0, args.steps))
    weights = next(line for line in (run / "log.txt").read_text().splitlines() if " parameters, " in line)
    count = int(weights.split(" parameters, ")[0].split()[-1])
    return f"| {name} | {count / 1e6:.2f} M | {before:.2f} % | {after:.2f} % | {seconds:.2f} |"


def train(network: str, options: dict[str, Any], loss: str, run: Path, args: argparse.Namespace) -> None:
    each = 2 if loss in PAIRS else 1
    words = {
        "--config": str(REPO / "configs/tiny.yaml"),
        "--run.folder": str(run),
        "--data.url": args.shards,
        "--data.crop_frames": str(args.crop_frames),
        "--batch.speakers": str(64 // each),
        "--batch.utterances_per_speaker": str(each),
        "--model.name": network,
        "--model.options": json.dumps(options),
        "--loss.name": loss,
        "--loss.options": json.dumps(LOSSES[loss]),
        "--optim.lr": "0.001",
        "--train.steps": str(args.steps),
        "--validation.trials": "null",
        "--validation.data": "null",
        "--checkpoint.every": str(args.steps),
    }
    command = [sys.executable, "-m", "train", *(word for pair in words.items() for word in pair)]
    subprocess.run(command, cwd=REPO, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def error_rate(run: Path, loss: str, step: int, args: argparse.Namespace) -> float:
    out = run / f"eval-{step}"
    checkpoint = run / "checkpoints" / f"step-{step:08d}.pt"
    scoring = "euclidean" if loss == "prototypical" else "cosine"
    where = ["--trials", args.trials, "--data", args.data, "--out", str(out), "--scoring", scoring]
    command = [sys.executable, "-m", "eval", str(checkpoint), *where]
    subprocess.run(command, cwd=REPO, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return float(json.loads((out / "metrics.json").read_text())["eer"])


if __name__ == "__main__":
    main()
