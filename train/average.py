"""The command `python -m train average`: the mean of a run's newest checkpoints, as one more checkpoint."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from shard_tools import storage
from shard_tools.errors import UserError, exit_status
from shard_tools.options import place, whole_number
from shard_tools.text import counted, shown
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  python -m train average runs/first --last 10        # into runs/first/average.pt
  python -m train average s3://bucket/first/checkpoints --steps 90000 100000 --out first.pt
  python -m eval runs/first/average.pt --out runs/first/eval/average
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return exit_status(lambda: _average(_parser().parse_args(argv)), program="train average")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train average",
        description="Average the weights of a run's checkpoints, network and loss, into one that eval and "
        "init.from take. The run must have kept as many (checkpoint.keep).",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run", metavar="RUN", type=place, help="a run's folder, or a folder of checkpoints: path or URL"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--last", type=whole_number(1, 100_000), default=10, metavar="N", help="the newest N (default 10)"
    )
    which.add_argument(
        "--steps",
        type=whole_number(0, 10**12),
        nargs="+",
        metavar="STEP",
        help="of these steps instead",
    )
    parser.add_argument(
        "--out", type=place, metavar="FILE", help="path or URL of what is written (default: RUN/average.pt)"
    )
    add_version(parser)
    return parser


def _average(options: argparse.Namespace) -> None:
    from eval.checkpoint.average import (  # torch, which --help need not wait for
        newest,
        of_steps,
        write_average,
    )

    if options.steps is not None and len(set(options.steps)) != len(options.steps):
        raise UserError(f"--steps {' '.join(map(str, options.steps))}: each step may stand there once")
    urls = of_steps(options.run, options.steps) if options.steps else newest(options.run, options.last)
    out = options.out or storage.join(options.run, "average.pt")
    write_average(urls, out, lambda text: print(f"train average: {shown(text)}", file=sys.stderr))
    print(f"{shown(out)}: the mean of {counted(len(urls), 'checkpoint')}")
