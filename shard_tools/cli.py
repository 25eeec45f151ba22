"""make-shards: the command line of packing, merging, indexing, verifying and describing shards."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from shard_tools import help_texts
from shard_tools.audio import SAMPLE_RATE
from shard_tools.dataset.manifest import Manifest
from shard_tools.dataset.speakers import FORMS, USUAL, SpeakerRule, parse_rule
from shard_tools.errors import exit_status
from shard_tools.looking import add_info, add_verify
from shard_tools.options import URL_IS, add_workers, local_path, place, whole_number
from shard_tools.pack.foreign import index_tars
from shard_tools.pack.merging import MergeSummary, merge
from shard_tools.pack.packing import PackOptions, PackSummary, PartSummary, pack, pack_part
from shard_tools.pack.parts import Part, parse_part
from shard_tools.selecting import (
    add_select,
    add_selection,
    add_whose,
    append_line,
    given_options,
    run_append,
    run_select,
    selection_of,
    tell_report,
)
from shard_tools.text import counted
from shard_tools.version import add_version

PROGRAM = "make-shards"
_MOST_TOGETHER = 10**9  # utterances of a shard or a group: all of any corpus


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `make-shards`; returns the exit status."""

    def command() -> int:
        args = _parser().parse_args(arguments)
        status: int = args.command(args)
        return status

    return exit_status(command, program=PROGRAM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Pack speech into WebDataset shards with an index, and look after them.",
        epilog=help_texts.EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], **texts: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(name, formatter_class=argparse.RawDescriptionHelpFormatter, **texts)
        added.set_defaults(command=command)
        return added

    defaults = PackOptions()
    sub = add(
        "pack",
        _pack,
        help="pack audio into shards",
        description=help_texts.PACK,
        epilog=help_texts.PACK_EXAMPLES,
    )
    sub.add_argument(
        "root", metavar="ROOT", type=local_path, help="folder below which the audio lies, or a ZIP archive"
    )
    sub.add_argument("url", metavar="URL", type=place, help=f"where the shards go: {URL_IS}")
    add_whose(sub)
    sub.add_argument(
        "--format",
        choices=("keep", "wav", "flac"),
        help="keep each file's bytes (default), or re-encode, sample for sample",
    )
    sub.add_argument(
        "--convert", action="store_true", help="down-mix, resample and round what is not 16 kHz, mono, 16-bit"
    )
    sub.add_argument(
        "--utterances-per-shard",
        metavar="N",
        type=whole_number(1, _MOST_TOGETHER),
        help=f"about so many (default {defaults.utterances_per_shard})",
    )
    sub.add_argument(
        "--group",
        metavar="N",
        type=whole_number(1, _MOST_TOGETHER),
        help=f"keep up to N utterances of a speaker in one shard (default {defaults.group})",
    )
    sub.add_argument(
        "--seed",
        metavar="N",
        type=whole_number(0, 2**32 - 1),
        help=f"of the shuffle (default {defaults.seed})",
    )
    sub.add_argument(
        "--part",
        metavar="I/N",
        type=_part,
        help="make the I-th of N parts of the shards, I from 1 to N; then make-shards merge URL",
    )
    sub.add_argument(
        "--overwrite", action="store_true", help="replace another dataset that is there, or was begun"
    )
    sub.add_argument(
        "--append", action="store_true", help="add to the dataset that is there, whose shards and labels stay"
    )
    add_workers(sub)
    add_selection(sub)

    sub = add(
        "select",
        run_select,
        help="make the list of what pack would leave of a list",
        description=help_texts.SELECT,
        epilog=help_texts.SELECT_EXAMPLES,
    )
    add_select(sub)
    add_workers(sub)

    sub = add(
        "merge",
        _merge,
        help="finish a pack that was made in parts",
        description=help_texts.MERGE,
        epilog=help_texts.MERGE_EXAMPLES,
    )
    sub.add_argument("url", metavar="URL", type=place, help=f"where the parts were packed to: {URL_IS}")

    add_info(add)
    add_verify(add)

    sub = add(
        "index",
        _index,
        help="index tars that someone else made",
        description=help_texts.INDEX,
        epilog=help_texts.INDEX_EXAMPLES,
    )
    sub.add_argument("url", metavar="URL", type=place, help=f"the folder of the tars: {URL_IS}")
    sub.add_argument(
        "--speaker-from",
        metavar="HOW",
        type=_rule,
        default=USUAL,
        help=f"where the speaker stands, if not where it usually does: {FORMS}",
    )
    sub.add_argument("--overwrite", action="store_true", help="replace a manifest and indexes that are there")
    add_workers(sub)
    return parser


def _part(text: str) -> Part:
    try:
        return parse_part(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _pack(args: argparse.Namespace) -> int:
    if args.append:
        appended = run_append(args)
        tell_report(appended.report, appended.table)
        print(append_line(appended, args.url))
        return 0
    arguments: dict[str, Any] = {
        "list_url": args.list,
        "speaker": args.speaker,
        "options": PackOptions(**given_options(args)),
        "selection": selection_of(args),
        "workers": args.workers,
        "overwrite": args.overwrite,
        "progress": True,
    }
    if args.part is None:
        summary = pack(args.root, args.url, **arguments)
        tell_report(summary.report, summary.table)
        print(summary_line(summary, args.url))
    else:
        part = pack_part(args.root, args.url, args.part, **arguments)
        tell_report(part.report, part.table)
        print(_part_line(part, args.url))
    return 0


def _merge(args: argparse.Namespace) -> int:
    summary = merge(args.url)
    print(
        _whole_line(summary.manifest, args.url) if summary.whole_before else summary_line(summary, args.url)
    )
    return 0


def _rule(text: str) -> SpeakerRule:
    try:
        return parse_rule(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _index(args: argparse.Namespace) -> int:
    summary = index_tars(
        args.url, rule=args.speaker_from, workers=args.workers, overwrite=args.overwrite, progress=True
    )
    print(f"{args.url}: {_counts(summary.manifest)}; took {summary.seconds:.1f} s")
    places = [f"{place} ({count})" for place, count in summary.speakers_from.items()]
    print(f"speakers are from {', '.join(places)}")
    for kind, (count, first) in summary.passed_over.items():
        print(f"passed over: {count} {kind} ({first}{', …' * (count > 1)})")
    return 0


def summary_line(summary: PackSummary | MergeSummary, url: str) -> str:
    """What a pack made, in one line."""
    return f"{url}: {_counts(summary.manifest)}; took {summary.seconds:.1f} s, {summary.reused} reused"


def _whole_line(manifest: Manifest, url: str) -> str:
    return f"{url}: {_counts(manifest)}; was whole already, nothing to merge"


def _part_line(summary: PartSummary, url: str) -> str:
    hours = sum(entry.frames for entry in summary.shards) / SAMPLE_RATE / 3600
    utterances = sum(entry.nsamples for entry in summary.shards)
    size = sum(entry.filesize for entry in summary.shards)
    return (
        f"{url}: part {summary.part}: {counted(utterances, 'utterance')}, {hours:.2f} h,"
        f" in {len(summary.shards)} of {counted(summary.all, 'shard')}, {size / 1e6:.1f} MB;"
        f" took {summary.seconds:.1f} s, {summary.reused} reused;"
        f" after all parts: make-shards merge {url}"
    )


def _counts(manifest: Manifest) -> str:
    utterances, speakers = (
        counted(manifest.utterances, "utterance"),
        counted(len(manifest.speakers), "speaker"),
    )
    shards = counted(len(manifest.shards), "shard")
    return f"{utterances} of {speakers}, {manifest.hours:.2f} h, in {shards}, {manifest.bytes / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
