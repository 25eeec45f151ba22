"""What make-shards pack, pack --append and select have in common: which utterances, and what is told."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from typing import Any

from shard_tools import storage
from shard_tools.dataset.key_list import KeyList, read_keys
from shard_tools.errors import UserError
from shard_tools.options import local_path, number, place, speaker_name, whole_number
from shard_tools.pack.appending import AppendSummary, append, differences, options_of
from shard_tools.pack.intake import Wanted, take_in
from shard_tools.pack.plan import PackOptions
from shard_tools.pack.selected import Report, said, to_json, to_table
from shard_tools.pack.selection import Selection
from shard_tools.text import counted, shown

_LONGEST_S = 1e6
_MOST = 10**9
_LAYOUT = ("format", "utterances_per_shard", "group", "seed")


def add_whose(sub: argparse.ArgumentParser) -> None:
    """--list or --speaker."""
    whose = sub.add_mutually_exclusive_group()
    whose.add_argument(
        "--list", metavar="LIST", type=place, help='"speaker relative/path.wav" lines; a path or URL'
    )
    whose.add_argument(
        "--speaker",
        metavar="NAME",
        type=speaker_name,
        help="of all files below ROOT, such as a category of noise",
    )


def add_select(sub: argparse.ArgumentParser) -> None:
    """The arguments of `make-shards select`."""
    sub.add_argument("root", metavar="ROOT", type=local_path, help="as of pack")
    sub.add_argument("out", metavar="OUT", type=place, help="the list to write; a path or URL")
    add_whose(sub)
    sub.add_argument("--convert", action="store_true", help="take what pack --convert takes")
    sub.add_argument(
        "--overwrite",
        action="store_true",
        help="replace OUT, OUT.json and OUT.left-out.tsv where they are there",
    )
    add_selection(sub)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """The options that leave utterances out, or tell of them."""
    group = parser.add_argument_group(
        "which utterances", "In this order; what is left out is counted, and listed in pack-left-out.tsv."
    )
    seconds = number(0, _LONGEST_S)
    group.add_argument(
        "--drop",
        metavar="FILE",
        type=place,
        help="leave out the utterances whose keys it names, one a line, as python -m eval audit writes it",
    )
    group.add_argument("--min-seconds", metavar="S", type=seconds, help="leave out shorter utterances")
    group.add_argument("--max-seconds", metavar="S", type=seconds, help="leave out longer ones")
    group.add_argument(
        "--duplicates",
        choices=("keep", "report", "drop", "refuse"),
        default="keep",
        help="utterances whose audio another one has: do not look (default), name them, leave out all but the"
        " first in the list, or pack nothing; what a dataset has that --append adds to is not looked at",
    )
    group.add_argument(
        "--min-utterances",
        metavar="N",
        type=whole_number(1, _MOST),
        default=1,
        help="leave out speakers who have fewer left",
    )
    group.add_argument(
        "--statistics",
        action="store_true",
        help="measure silence and clipping, which decodes every file once more; see pack-selection.json",
    )


def selection_of(args: argparse.Namespace) -> Selection:
    """What `add_selection` was told."""
    return Selection(
        drop=None if args.drop is None else KeyList(args.drop, read_keys(args.drop)),
        min_seconds=args.min_seconds,
        max_seconds=args.max_seconds,
        min_utterances=args.min_utterances,
        duplicates=args.duplicates,
        statistics=args.statistics,
    )


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Those of PackOptions that stand on the command line."""
    given = {name: getattr(args, name) for name in _LAYOUT if getattr(args, name) is not None}
    return {**given, "convert": args.convert}


def run_append(args: argparse.Namespace) -> AppendSummary:
    """`make-shards pack --append`."""
    if args.part is not None:
        raise UserError(
            "--append: not with --part: its shards are numbered after those that are there, and its manifest"
            " takes the place of theirs, which one process does; pack the list in parts to another URL, and"
            " give data.url both when training"
        )
    options = options_of(args.url, given_options(args))
    wanted = Wanted(args.root, args.list, args.speaker, options, selection_of(args))
    summary = append(args.url, wanted, workers=args.workers, overwrite=args.overwrite, progress=True)
    tell(differences(summary))
    return summary


def append_line(summary: AppendSummary, url: str) -> str:
    """What an append made, in one line."""
    manifest = summary.manifest
    if summary.again:
        return f"{url}: had {counted(summary.added, 'utterance')} of this list already; nothing was appended"
    return (
        f"{url}: appended {counted(summary.added, 'utterance')},"
        f" {counted(summary.new_speakers, 'speaker')} of them new; now"
        f" {counted(manifest.utterances, 'utterance')} of {counted(len(manifest.speakers), 'speaker')},"
        f" {manifest.hours:.2f} h, in {counted(len(manifest.shards), 'shard')};"
        f" took {summary.seconds:.1f} s, {summary.reused} reused"
    )


def run_select(args: argparse.Namespace) -> int:
    """`make-shards select`: write the list of what is left, and beside it the report."""
    wanted = Wanted(args.root, args.list, args.speaker, PackOptions(convert=args.convert), selection_of(args))
    out = args.out
    told, table_there = f"{out}.json", f"{out}.left-out.tsv"
    for name in (out, told, table_there):
        if name == args.list:
            raise UserError(f"{name}: is the list that is read; write what is left to another file")
        if storage.exists(name) and not args.overwrite:
            raise UserError(f"{name}: is there already; give another name, or --overwrite to replace it")
    intake = take_in(wanted, workers=args.workers, progress=True)
    report, listing = intake.report, intake.listing
    table = None
    if report.left or report.duplicates:
        table = table_there
        storage.publish_bytes(table, to_table(report))
    else:
        storage.remove(table_there)
    storage.publish_bytes(told, to_json(report))
    rows = zip(listing.speakers, listing.paths, strict=True)
    storage.publish_bytes(out, "".join(f"{speaker} {path}\n" for speaker, path in rows).encode())
    tell(said(report, table))
    print(
        f"{out}: {counted(len(listing), 'utterance')} of {counted(report.speakers_packed, 'speaker')};"
        f" pack them with --list {out}"
    )
    return 0


def tell_report(report: Report, table: str | None) -> None:
    """On stderr."""
    tell(said(report, table))


def tell(lines: Iterable[str]) -> None:
    for line in lines:
        print(shown(line), file=sys.stderr)
