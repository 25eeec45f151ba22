"""Evaluates a checkpoint on a trial list: error rates and a report."""

from __future__ import annotations

import argparse
import hashlib
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from eval.checkpoint.file import decode_checkpoint, load_network
from eval.checkpoint.find import default_out, find_checkpoint, validation_of
from eval.evaluate import evaluate_network
from eval.report.evaluation import Evaluation
from eval.report.outputs import prepare_folder, write_outputs
from eval.scoring import SCORERS, needs_training
from eval.speakers import speakers_of
from eval.trials import read_trials
from eval.utterances import open_utterances
from shard_tools import storage
from shard_tools.errors import UserError, exit_status
from shard_tools.options import place, whole_number
from shard_tools.text import redacted, shown
from shard_tools.version import add_version, version

_EXAMPLES = """\
Examples:
  # a run's best checkpoint on the run's own validation trials, into runs/first/eval/step-XXXXXXXX
  python -m eval runs/first

  # whole utterances, straight from shards
  python -m eval runs/demo/checkpoints/step-00002000.pt --trials veri_test.txt --data s3://bucket/vox1-test \\
      --out runs/demo/eval

  # the VoxCeleb trainer's protocol: 10 crops of 4 s, mean pairwise distance
  python -m eval step-00002000.pt --trials veri_test2.txt --data /data/voxceleb1 --out eval \\
      --crops 10 --crop-frames 400 --scoring euclidean

OUT then holds metrics.json, scores.txt (score path path), det.png and report.html.
"""

# Of the crops of one utterance together: 1,000 s of audio, 32 MB, of which some dozens are in memory at once.
CROP_FRAMES_OF_AN_UTTERANCE = 100_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    return exit_status(lambda: _evaluate(parser().parse_args(argv)), program="eval")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m eval",
        description="Embed the utterances of a trial list, score the trials, and report EER and minDCF.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument(
        "checkpoint",
        type=place,
        metavar="CHECKPOINT",
        help="a checkpoint file, a folder of checkpoints, or the folder of a run: path or URL",
    )
    made.add_argument(
        "--which",
        choices=("best", "newest"),
        help="of a folder's checkpoints: best (default) has the lowest validation EER; where none is noted, "
        "the newest is taken",
    )
    made.add_argument(
        "--trials",
        type=place,
        metavar="FILE",
        help="lines 'label path path', label 1 or 0 (default: the run's validation.trials)",
    )
    made.add_argument(
        "--data",
        type=place,
        metavar="URL_OR_FOLDER",
        help="shards (a folder or URL with manifest.json), or a folder of 16 kHz mono WAV or FLAC files "
        "from which the list's paths start (default: the run's validation.data)",
    )
    made.add_argument(
        "--out",
        type=place,
        metavar="FOLDER",
        help="where the results go; made if absent (default, for a run: RUN/eval/step-XXXXXXXX)",
    )
    made.add_argument(
        "--save-embeddings",
        type=place,
        metavar="FILE",
        help="write the utterances' embeddings too, as .npz: names, vectors (utterances, crops, D), how they "
        "were cut",
    )
    made.add_argument(
        "--crops",
        type=whole_number(0, 1000),
        metavar="N",
        help="evenly spaced crops of each utterance; 0 embeds it whole (default: 0, and as in the run's "
        "validation without --trials)",
    )
    made.add_argument(
        "--crop-frames",
        type=whole_number(1, CROP_FRAMES_OF_AN_UTTERANCE),
        metavar="F",
        help="feature frames of 10 ms in a crop, which has F*160+240 audio frames (default: 400 or as above)",
    )
    made.add_argument(
        "--scoring",
        choices=[name for name in sorted(SCORERS) if not needs_training(name)],
        default="cosine",
        help="mean cosine over all pairs of crops (default), or minus their mean distance (VoxCeleb trainer)",
    )
    made.add_argument(
        "--p-target",
        type=_probability,
        nargs="+",
        default=[0.05, 0.01],
        metavar="P",
        help="prior probabilities of a target trial for minDCF (default 0.05 0.01); costs are 1",
    )
    made.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto (default): a GPU if there is one",
    )
    made.add_argument(
        "--batch-utterances",
        type=whole_number(1, 4096),
        default=16,
        metavar="B",
        help="utterances to a batch, in which pieces of equal length are embedded at once (default 16)",
    )
    made.add_argument(
        "--threads",
        type=whole_number(1, 256),
        default=4,
        metavar="N",
        help="threads that read ahead (default 4)",
    )
    add_version(made)
    return made


def _evaluate(options: argparse.Namespace) -> None:
    device = _device(options.device)
    found = find_checkpoint(options.checkpoint, options.which, _say)
    data = storage.read_bytes(found.url)
    checkpoint, digest = decode_checkpoint(data, found.url), hashlib.sha256(data).hexdigest()
    trials = read_trials(options.trials or validation_of(checkpoint["config"], "trials", found.url))
    source = open_utterances(options.data or validation_of(checkpoint["config"], "data", found.url))
    # The run's own trials are taken as the run took them.
    own = {} if options.trials else checkpoint["config"]["validation"]
    crops = own.get("crops", 0) if options.crops is None else options.crops
    crop_frames = options.crop_frames or own.get("crop_frames", 400)
    if crops * crop_frames > CROP_FRAMES_OF_AN_UTTERANCE:
        raise UserError(
            f"--crops {crops} of --crop-frames {crop_frames} are {crops * crop_frames} feature frames of "
            f"each utterance; {CROP_FRAMES_OF_AN_UTTERANCE} (17 minutes) are allowed: lower one of them"
        )
    out = options.out or default_out(found, checkpoint["step"])
    network = load_network(checkpoint, device, name=found.url)
    prepare_folder(out)
    result = evaluate_network(
        network,
        source,
        trials,
        device=device,
        crops=crops,
        crop_feature_frames=crop_frames,
        scoring=options.scoring,
        p_targets=options.p_target,
        batch_utterances=options.batch_utterances,
        threads=options.threads,
        progress=True,
        made_by=digest,
    )
    metrics = {
        **result.metrics,
        "checkpoint": redacted(found.url),
        "checkpoint_sha256": digest,
        "step": checkpoint["step"],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "versions": {
            "voxshard": version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    if options.save_embeddings is not None:
        result.embeddings.save(options.save_embeddings)
    speakers = speakers_of(trials.names, source)
    write_outputs(
        out,
        Evaluation(result.scores, trials, metrics, checkpoint["config"], result.embeddings, speakers),
    )
    print(summary(metrics, storage.join(out, "report.html")))


def _say(text: str) -> None:
    print(f"eval: {shown(text)}", file=sys.stderr)


def summary(metrics: dict[str, Any], report: str) -> str:
    """What the command prints at its end: a few lines with the operating point beside each number."""
    lines = [
        f"{metrics['trial_list']}: {metrics['trials']:,} trials, {metrics['targets']:,} of them target, "
        f"{metrics['utterances']:,} utterances, {metrics['seconds']:.1f} s",
        f"  EER                    {metrics['eer']:7.3f} %",
    ]
    lines += [
        f"  {f'minDCF(p_target={p_target})':<22} {cost:7.4f}" for p_target, cost in metrics["min_dcf"].items()
    ]
    return "\n".join([*lines, f"  report: {shown(report)}"])


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch finds no usable GPU here; use --device cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _probability(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
