"""make-shards: the command line of packing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from shard_tools.errors import exit_status
from shard_tools.pack import PackOptions, PackSummary, pack

_EXAMPLES = """\
Examples:
  make-shards pack voxceleb2/wav s3://bucket/vox2 --list lists/train_list.txt --workers 16
  make-shards pack musan shards/musan --format flac
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `make-shards`; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="make-shards",
        description="Pack speech into WebDataset shards with an index, and look after them.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    sub = commands.add_parser(
        "pack",
        help="pack audio below ROOT into shards at URL",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_EXAMPLES,
    )
    sub.add_argument("root", metavar="ROOT")
    sub.add_argument("url", metavar="URL")
    sub.add_argument("--list", dest="list_url")
    sub.add_argument("--format", choices=("keep", "wav", "flac"), default="keep")
    sub.add_argument("--utterances-per-shard", type=int, default=1000)
    sub.add_argument("--group", type=int, default=4)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--workers", type=int, default=1)
    sub.add_argument("--convert", action="store_true")
    sub.add_argument("--overwrite", action="store_true")
    sub.set_defaults(run=_pack)
    options = parser.parse_args(arguments)
    return exit_status(lambda: options.run(options), program="make-shards")


def _pack(args: argparse.Namespace) -> int:
    summary = pack(
        args.root,
        args.url,
        list_url=args.list_url,
        workers=args.workers,
        overwrite=args.overwrite,
        progress=True,
        options=PackOptions(args.format, args.convert, args.utterances_per_shard, args.group, args.seed),
    )
    print(_summary(summary, args.url))
    return 0


def _summary(summary: PackSummary, url: str) -> str:
    m = summary.manifest
    return (
        f"{url}: {m.utterances} utterances of {len(m.speakers)} speakers, {m.hours:.2f} h, {len(m.shards)} shards"
        f" ({summary.reused} reused), {m.bytes / 1e6:.1f} MB in {summary.seconds:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
