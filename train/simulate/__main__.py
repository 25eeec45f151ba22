"""python -m train.simulate: compare ways to read a dataset before training on it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from tqdm import tqdm

from models.parts.frontend import crop_length
from shard_tools.errors import UserError, exit_status
from shard_tools.options import number, place, whole_number
from shard_tools.version import add_version
from train.plan import BatchSpec
from train.simulate.dataset import Dataset, open_dataset, synthetic
from train.simulate.reading import Impossible, Job, Reading, cached, ranged
from train.simulate.report import as_document, as_table, scale_as_text
from train.simulate.scale import planning

MOST_UTTERANCES = 200_000_000  # each takes some 100 bytes

_DESCRIPTION = """\
What an epoch costs each node, and how well it is mixed, for each way to read the shards: crops by ranged
requests from a shuffle of the whole epoch, or whole shards through a cache on the node, a window of them
at a time, for several windows. Reads the manifest and its indexes, no audio; the batches counted are those
of a training run with the same options and seed.
"""

_EXAMPLES = """\
Examples:
  # the shards at a URL, trained on by 4 nodes of 8 GPUs
  python -m train.simulate s3://bucket/voxceleb2 --nodes 4 --ranks-per-node 8 --speakers 256

  # before anything is packed: 1.09 million utterances of 5,994 speakers, 8 s each, 1,000 in a shard
  python -m train.simulate --synthetic 1092009 5994 --nodes 4 --ranks-per-node 8 --speakers 256

  # metric learning; crops checked against the index as they are read
  python -m train.simulate shards/vox2 --speakers 100 --utterances-per-speaker 2 --verify crops --json

  # does planning by windows stand a hundred million utterances?
  python -m train.simulate --synthetic 100000000 1000000 --scale
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return exit_status(lambda: _run(_parser().parse_args(arguments)), program="train.simulate")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.simulate",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "url",
        metavar="URL",
        nargs="?",
        type=place,
        help="folder of a manifest.json: a path, s3://…, any fsspec URL",
    )
    add("--exclude", metavar="FILE", type=place, help="keys of utterances that are left out: data.exclude")
    add("--nodes", metavar="N", type=whole_number(1, 65_536), default=1, help="machines (default 1)")
    add(
        "--ranks-per-node",
        metavar="R",
        type=whole_number(1, 1024),
        default=1,
        help="processes on each (default 1)",
    )
    add(
        "--speakers",
        metavar="P",
        type=whole_number(1, 1_000_000),
        default=200,
        help="speakers in a global batch (default 200)",
    )
    add(
        "--utterances-per-speaker",
        metavar="K",
        type=whole_number(1, 10_000),
        default=1,
        help="of each (default 1)",
    )
    add(
        "--max-utterances-per-speaker",
        metavar="M",
        type=whole_number(1, 1_000_000_000),
        help="in an epoch (default: all)",
    )
    add(
        "--crop-frames",
        metavar="F",
        type=whole_number(1, 10_000),
        default=200,
        help="crop, feature frames of 10 ms (default 200)",
    )
    add(
        "--shortest-crop-frames",
        metavar="F",
        type=whole_number(1, 10_000),
        help="where the batches' lengths vary up to --crop-frames (default: they do not)",
    )
    add(
        "--lanes",
        metavar="L",
        type=whole_number(1, 65_536),
        help="data.windows.lanes (default: one for each process)",
    )
    add(
        "--window",
        metavar="W",
        type=whole_number(1, 1_000_000),
        default=16,
        help="data.windows.shards (default 16), and around it",
    )
    add("--verify", choices=("none", "crops"), default="none", help="crops: ranged reads of whole blocks")
    add(
        "--step-seconds",
        metavar="S",
        type=number(0.001, 86_400),
        default=0.5,
        help="a training step takes (default 0.5)",
    )
    add("--seed", metavar="N", type=whole_number(0, 2**32 - 1), default=0, help="run.seed (default 0)")
    add("--json", action="store_true", help="print JSON instead of a table")
    add_version(parser)
    made_up = parser.add_argument_group("without a dataset")
    add = made_up.add_argument
    add(
        "--synthetic",
        metavar=("UTTERANCES", "SPEAKERS"),
        type=whole_number(1, MOST_UTTERANCES),
        nargs=2,
        help="make one up, in PCM",
    )
    add(
        "--seconds",
        metavar="S",
        type=number(0.1, 86_400),
        default=8.0,
        help="mean length of an utterance (default 8)",
    )
    add(
        "--utterances-per-shard",
        metavar="N",
        type=whole_number(1, 10_000_000),
        default=1000,
        help="(default 1000)",
    )
    add(
        "--group",
        metavar="N",
        type=whole_number(1, 10_000),
        default=4,
        help="as make-shards pack --group (default 4)",
    )
    add("--scale", action="store_true", help="measure how long planning by windows takes, and its memory")
    return parser


def _run(args: argparse.Namespace) -> None:
    _check(args)
    job = Job(
        nodes=args.nodes,
        ranks_per_node=args.ranks_per_node,
        spec=BatchSpec(
            speakers=args.speakers,
            utterances_per_speaker=args.utterances_per_speaker,
            crop=crop_length(args.crop_frames),
            max_utterances_per_speaker=args.max_utterances_per_speaker,
            seed=args.seed,
            varying=args.crop_frames - (args.shortest_crop_frames or args.crop_frames),
        ),
        verify_crops=args.verify == "crops",
    )
    lanes = job.world if args.lanes is None else args.lanes
    if args.scale:
        utterances, speakers = args.synthetic
        scale = planning(utterances, speakers, args.utterances_per_shard, lanes, args.window, job.spec)
        print(json.dumps(asdict(scale), indent=1) if args.json else scale_as_text(scale))
        return
    dataset = _dataset(args)
    readings = simulate(dataset, job, lanes, args.window)
    show = (dataset, job, lanes, args.step_seconds, readings)
    print(json.dumps(as_document(*show), indent=1) if args.json else as_table(*show))


def simulate(dataset: Dataset, job: Job, lanes: int, window: int) -> list[Reading | Impossible]:
    """The full shuffle, and windows from a sixteenth of `window` to twice as many. Raises PlanError."""
    rounds = -(-len(dataset.shard_bytes) // max(lanes, 1))
    widths = sorted(
        {min(max(round(window * factor), 1), rounds) for factor in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2)}
    )
    with tqdm(total=1 + len(widths), desc="simulating", unit="reading", disable=None, leave=False) as bar:
        readings: list[Reading | Impossible] = [ranged(dataset, job)]
        for width in widths:
            bar.update()
            readings.append(cached(dataset, job, lanes, width))
    return readings


def _dataset(args: argparse.Namespace) -> Dataset:
    if args.synthetic is None:
        return open_dataset(args.url, args.exclude)
    utterances, speakers = args.synthetic
    return synthetic(
        utterances,
        speakers,
        seconds=args.seconds,
        utterances_per_shard=args.utterances_per_shard,
        group=args.group,
        seed=args.seed,
    )


def _check(args: argparse.Namespace) -> None:
    if (args.shortest_crop_frames or 0) > args.crop_frames:
        raise UserError(
            f"--shortest-crop-frames is {args.shortest_crop_frames}, more than --crop-frames "
            f"{args.crop_frames}, which is the longest"
        )
    if (args.url is None) == (args.synthetic is None):
        raise UserError("give either the URL of a dataset or --synthetic UTTERANCES SPEAKERS")
    if args.exclude is not None and args.url is None:
        raise UserError("--exclude names utterances of a dataset: give its URL, and no --synthetic")
    if args.scale and args.synthetic is None:
        raise UserError("--scale makes its utterances up: give --synthetic UTTERANCES SPEAKERS, and no URL")
    if args.scale and args.utterances_per_shard % 4:
        raise UserError(
            f"--utterances-per-shard is {args.utterances_per_shard}; --scale needs a multiple of 4"
        )


if __name__ == "__main__":
    sys.exit(main())
