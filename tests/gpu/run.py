r"""What only a GPU can show: training in each precision, compiled, twice, resumed, failing, and its speed.

    .venv/bin/python tests/gpu/run.py                       # exit status 1 if a check fails
    .venv/bin/python tests/gpu/run.py --only fp32 resumed
    .venv/bin/python tests/gpu/run.py --device cpu --quick  # tries the script itself, where there is no GPU

Each check is a program of ours in a process of its own, on made-up voices. The table goes to stdout, with
--out FILE as JSON too, and each run's output stays in a folder that is named when something fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO), str(REPO / "tests" / "helpers")]

import small_corpus  # noqa: E402

from shard_tools.pack.packing import pack  # noqa: E402

LEAVES_S = 120  # a run that fails must have left by then


class CheckError(Exception):
    """A check that failed, and why."""


@dataclass(frozen=True)
class Place:
    """corpus: of the small runs; many: shards of 200 speakers, for speed; steps: of a small run."""

    folder: Path
    corpus: small_corpus.Corpus
    many: str
    device: str
    steps: int
    speed_steps: int
    rows: tuple[int, ...]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="few steps, small batches")
    parser.add_argument("--only", nargs="+", choices=CHECKS, metavar="CHECK", help=", ".join(CHECKS))
    parser.add_argument("--out", type=Path, help="JSON")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("tests/gpu: torch finds no GPU here; --device cpu tries the script itself", file=sys.stderr)
        return 1
    folder = Path(tempfile.mkdtemp(prefix="voxshard-gpu-"))
    place = Place(
        folder,
        small_corpus.make(folder / "corpus"),
        many_speakers(folder / "many", max(ROWS if not args.quick else (8,))),
        args.device,
        steps=6 if args.quick else 40,
        speed_steps=3 if args.quick else 60,
        rows=(8,) if args.quick else ROWS,
    )
    name = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    print(f"torch {torch.__version__}, {name}; outputs below {folder}", flush=True)
    found: dict[str, dict[str, Any]] = {}
    for check in args.only or CHECKS:
        began = time.monotonic()
        try:
            said, ok = CHECKS[check](place), True
        except CheckError as error:
            said, ok = str(error), False
        found[check] = {"ok": ok, "said": said, "seconds": round(time.monotonic() - began, 1)}
        print(f"{'ok  ' if ok else 'FAIL'} {check:18} {time.monotonic() - began:6.1f} s  {said}", flush=True)
    if args.out:
        args.out.write_text(json.dumps({"device": name, "checks": found}, indent=2) + "\n")
    return 0 if all(each["ok"] for each in found.values()) else 1


ROWS = (25, 200)


def many_speakers(folder: Path, speakers: int) -> str:
    """Shards of so many speakers with two utterances of 2.2 s each."""
    rng = np.random.default_rng(0)
    for speaker in range(speakers):
        for number in range(2):
            path = folder / f"wav/s{speaker:03d}/{number}.wav"
            small_corpus.write(path, small_corpus.buzz(rng, 80 + speaker, 35_200))
    pack(str(folder / "wav"), str(folder / "shards"))
    return str(folder / "shards")


def command(place: Place, name: str, *more: str) -> tuple[list[str], Path]:
    """A small run's command line, and its folder."""
    run = place.folder / name
    augment = ["--augment.noise.url", place.corpus.noise, "--augment.reverberation.url", place.corpus.rooms]
    words = [
        "--config", str(REPO / "configs/tiny.yaml"), "--run.folder", str(run), "--data.url", place.corpus.wav,
        "--data.crop_frames", "50", "--batch.speakers", "8", "--batch.utterances_per_speaker", "2", *augment,
        "--validation.trials", "null", "--validation.data", "null", "--train.steps", str(place.steps),
        "--train.log_every", "1", "--train.device", place.device, "--checkpoint.every", "5",
    ]  # fmt: skip
    return [sys.executable, "-m", "train", *words, *more], run


@contextlib.contextmanager
def started(words: list[str], run: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The process, with its output beside the run's folder; ended in any case."""
    with open(f"{run}.out", "ab") as out:
        process = subprocess.Popen(
            words, cwd=REPO, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def finished(words: list[str], run: Path, *, status: int = 0, **environment: str) -> str:
    """Run it to its end; what it printed. CheckError for another exit status."""
    with started(words, run, **environment) as process:
        try:
            ended = process.wait(timeout=900)
        except subprocess.TimeoutExpired:
            raise CheckError(f"still running after 900 s: {run}.out") from None
    said = Path(f"{run}.out").read_text(errors="replace")
    if ended != status:
        raise CheckError(f"exit status {ended}, not {status}: {run}.out ends {said.strip()[-200:]!r}")
    return said


def records(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if "loss" in record]


def trained(place: Place, name: str, *more: str, **environment: str) -> str:
    """A run that must reach its end with a finite loss that fell."""
    words, run = command(place, name, *more)
    said = finished(words, run, **environment)
    losses = [record["loss"] for record in records(run)]
    if len(losses) != place.steps or not np.isfinite(losses).all():
        raise CheckError(f"{len(losses)} losses, the last {losses[-1:]}: {run}.out")
    recompiled = len(re.findall(r"Recompiling function", said))
    compiled = f", {recompiled} recompilations" if "TORCH_LOGS" in environment else ""
    return f"loss {losses[0]:.3f} → {losses[-1]:.3f}{compiled}"


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    path = run / "checkpoints" / f"step-{step:08d}.pt"
    found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)["network"]
    return found


def difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest of all numbers' differences."""
    return max(float((one[name].double() - other[name].double()).abs().max()) for name in one)


def compiled(place: Place) -> str:
    more = ["--train.compile", "true", "--train.precision", "bf16"]
    return trained(place, "compiled", *more, TORCH_LOGS="recompiles")


def twice(place: Place) -> str:
    """The same run twice, with and without deterministic algorithms."""
    found = {}
    for deterministic in ("true", "false"):
        runs = []
        for turn in range(2):
            words, run = command(
                place, f"twice-{deterministic}-{turn}", "--train.deterministic", deterministic
            )
            finished(words, run)
            runs.append(weights(run, place.steps))
        found[deterministic] = difference(*runs)
    if found["true"]:
        raise CheckError(f"with train.deterministic two runs differ by {found['true']:.3g}")
    return f"deterministic: equal to the bit; otherwise they differ by {found['false']:.3g}"


def resumed(place: Place) -> str:
    """SIGTERM in the midst, started again: as an undisturbed run."""
    words, run = command(place, "undisturbed", "--train.deterministic", "true")
    finished(words, run)
    other, stopped = command(place, "stopped", "--train.deterministic", "true")
    with started(other, stopped) as process:
        end = time.monotonic() + 300
        while not (stopped / "metrics.jsonl").exists() or len(records(stopped)) < 2:
            if time.monotonic() > end or process.poll() is not None:
                raise CheckError(f"it was not to be stopped: {stopped}.out")
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        status = process.wait(timeout=LEAVES_S)
    left = time.monotonic() - began
    if status not in (0, 75):
        raise CheckError(f"exit status {status} after SIGTERM: {stopped}.out")
    finished(other, stopped)
    apart = difference(weights(run, place.steps), weights(stopped, place.steps))
    if apart:
        raise CheckError(f"resumed, its weights differ by {apart:.3g}")
    return f"left {left:.1f} s after SIGTERM (status {status}); resumed, equal to the bit"


def diverged(place: Place) -> str:
    """A loss that is not finite ends the run, soon, with a line."""
    words, run = command(place, "diverged", "--optim.lr", "1e30")
    began = time.monotonic()
    said = finished(words, run, status=1)
    if "Traceback" in said or not re.search(r"error: the (loss is|weights hold) \w+", said):
        raise CheckError(f"no line about it: {run}.out")
    return f"{time.monotonic() - began:.1f} s from start to exit: {said.strip().splitlines()[-1][:120]}"


def shared_gpu(place: Place) -> str:
    """Two ranks on one GPU: NCCL refuses, and the message says so."""
    words, run = command(place, "shared")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    began = time.monotonic()
    with started([*torchrun, *words[2:]], run, CUDA_VISIBLE_DEVICES="0") as process:
        try:
            status = process.wait(timeout=LEAVES_S)
        except subprocess.TimeoutExpired:
            raise CheckError(f"it had not left after {LEAVES_S} s: {run}.out") from None
    said = Path(f"{run}.out").read_text(errors="replace")
    wanted = "no GPU of its own" if place.device == "cuda" else "done: "
    if (status == 0) == (place.device == "cuda") or wanted not in said:
        raise CheckError(f"exit status {status}, and not a word of {wanted!r}: {run}.out")
    return f"{time.monotonic() - began:.1f} s to the end; {wanted!r}"


def evaluated(place: Place) -> str:
    """Error rates on the device and on the CPU agree."""
    words, run = command(place, "evaluated")
    finished(words, run)
    rates = []
    for device in dict.fromkeys((place.device, "cpu")):
        out = place.folder / f"eval-{device}"
        evaluation = ["--trials", str(place.corpus.trials), "--data", str(place.corpus.folder / "wav")]
        evaluation += ["--out", str(out), "--device", device, "--no-cache"]
        finished([sys.executable, "-m", "eval", str(run), *evaluation], out)
        lines = (out / "scores.txt").read_text().splitlines()
        rates.append(np.array([float(line.split()[0]) for line in lines]))
    apart = float(np.abs(rates[0] - rates[-1]).max())
    if apart > 1e-2:  # TF32 in convolutions
        raise CheckError(f"scores on {place.device} and on the CPU differ by {apart:.3g}")
    return f"scores differ from a CPU's by {apart:.1e}"


def speed(place: Place) -> str:
    """Utterances a second of Fast ResNet-34, 2 s each."""
    forms: dict[str, list[str]] = {
        "fp32": [],
        "bf16": ["--train.precision", "bf16"],
        "bf16, channels-last, fused": [
            "--train.precision", "bf16", "--train.channels_last", "true", "--optim.options.fused", "true",
            "--train.cudnn_benchmark", "true",
        ],
        "bf16, compiled": ["--train.precision", "bf16", "--train.compile", "true"],
    }  # fmt: skip
    found = []
    for rows in place.rows:
        for form, more in forms.items():
            words, run = command(
                place, f"speed-{rows}-{form.replace(' ', '')}", "--data.url", place.many, "--model.name",
                "resnetse34l", "--data.crop_frames", "200", "--batch.speakers", str(rows),
                "--batch.utterances_per_speaker", "1", "--data.workers", "2", "--train.steps",
                str(place.speed_steps), "--checkpoint.every", "100000", "--augment.device", "model", *more,
            )  # fmt: skip
            finished(words, run)
            later = records(run)[place.speed_steps // 2 :]
            rate = len(later) / sum(1 / record["utterances_per_second"] for record in later)
            waited = sum(record["data_wait"] for record in later) / len(later)
            found.append(f"{rows} rows {form}: {rate:.0f}/s (waits {100 * waited:.1f} %)")
    return "; ".join(found)


CHECKS: dict[str, Callable[[Place], str]] = {
    "fp32": lambda place: trained(place, "fp32"),
    "bf16": lambda place: trained(place, "bf16", "--train.precision", "bf16"),
    "fp16": lambda place: trained(
        place, "fp16", "--train.precision", "fp16" if place.device == "cuda" else "fp32"
    ),
    "compiled": compiled,
    "angleproto": lambda place: trained(
        place, "angleproto", "--loss.name", "angleproto", "--loss.options", "{}"
    ),
    "augmented there": lambda place: trained(place, "augmented", "--augment.device", "model"),
    "twice": twice,
    "resumed": resumed,
    "diverged": diverged,
    "shared GPU": shared_gpu,
    "evaluated": evaluated,
    "speed": speed,
}

if __name__ == "__main__":
    sys.exit(main())
