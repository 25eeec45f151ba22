"""make-shards info and verify: the commands that look at shards that are there, and put bad ones back."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from shard_tools import help_texts, storage
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.dataset.info import as_text, describe, spread
from shard_tools.dataset.manifest import Manifest
from shard_tools.dataset.manifest_table import name_of
from shard_tools.dataset.verification import verify
from shard_tools.errors import UserError
from shard_tools.options import URL_IS, add_workers, local_path, place, speaker_name
from shard_tools.pack.repair import RepairSummary, repair
from shard_tools.pack.verdict import as_document
from shard_tools.text import counted, printable, shown

Add = Callable[..., argparse.ArgumentParser]


def add_info(add: Add) -> None:
    """`info`. add: as add(name, command, **texts), which makes the command's parser."""
    about = (
        "Describe the dataset at URL: how many, how long, how packed; how lengths are spread over utterances"
        " and speakers."
    )
    sub = add("info", _info, help="describe shards", description=about, epilog=help_texts.INFO_EXAMPLES)
    sub.add_argument("url", metavar="URL", type=place, help=URL_IS)
    sub.add_argument("--json", action="store_true", help="print JSON")
    sub.add_argument(
        "--plot",
        metavar="FILE",
        type=_figure,
        help="draw how long utterances are and how much there is of each speaker, as FILE.png or FILE.svg",
    )


def add_verify(add: Add) -> None:
    """`verify`, likewise."""
    sub = add(
        "verify",
        _verify,
        help="check every checksum and every utterance, and put back what is bad",
        description=help_texts.VERIFY,
        epilog=help_texts.VERIFY_EXAMPLES,
    )
    sub.add_argument("url", metavar="URL", type=place, help=URL_IS)
    sub.add_argument(
        "--repair",
        metavar="ROOT",
        type=local_path,
        help="pack bad and missing shards again, from the audio below ROOT that they were packed from",
    )
    whose = sub.add_mutually_exclusive_group()
    whose.add_argument("--list", metavar="LIST", type=place, help="for --repair: the list that was packed")
    whose.add_argument(
        "--speaker", metavar="NAME", type=speaker_name, help="for --repair: as it was given to pack"
    )
    sub.add_argument("--json", action="store_true", help="print JSON, of every shard what was found and done")
    add_workers(sub)


def _figure(text: str) -> str:
    if text.rpartition(".")[2].lower() not in ("png", "svg"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither FILE.png nor FILE.svg")
    return place(text)


def _info(args: argparse.Namespace) -> int:
    catalogue = open_catalogue(args.url)
    if args.plot is not None:
        from shard_tools.dataset.info_plot import plot  # matplotlib takes a second to load

        kind = args.plot.rpartition(".")[2].lower()
        storage.publish_bytes(args.plot, plot(spread(catalogue), args.url, kind))
    description = describe(catalogue)
    table = name_of(catalogue.digest)
    description["manifest_table"] = table if storage.exists(storage.join(args.url, table)) else None
    print(json.dumps(description, indent=1, ensure_ascii=False) if args.json else shown(as_text(description)))
    return 0


def _verify(args: argparse.Namespace) -> int:
    if args.repair is None:
        for option in ("list", "speaker"):
            if getattr(args, option) is not None:
                raise UserError(f"--{option} is for --repair ROOT; verify alone needs none")
        summary, repaired = verify(args.url, workers=args.workers, progress=True), None
    else:
        repaired = repair(
            args.url,
            args.repair,
            list_url=args.list,
            speaker=args.speaker,
            workers=args.workers,
            progress=True,
        )
        summary = repaired.after
    if args.json:
        print(json.dumps(as_document(args.url, summary, repaired), indent=1, ensure_ascii=False))
    else:
        for problem in summary.problems if repaired is None else repaired.before.problems:
            print(problem)
        if repaired is not None:
            _print_repairs(summary.manifest, repaired)
    done = f", {counted(len(repaired.put_back), 'shard')} repaired" if repaired and repaired.put_back else ""
    checked = _checked(summary.manifest)
    if summary.problems:
        problems = counted(len(summary.problems), "problem")
        left = " left" if repaired else ""
        print(f"{args.url}: {problems}{left}{done} ({checked})", file=sys.stderr)
        return 1
    if not args.json:
        print(f"{args.url}: everything is as it should be{done} ({checked})")
    return 0


def _print_repairs(manifest: Manifest, repaired: RepairSummary) -> None:
    for number, entry in enumerate(manifest.shards):
        if number in repaired.put_back:
            print(f"{entry.url}: repaired: {' and '.join(repaired.put_back[number])}")
        elif number in repaired.unrepaired:
            print(printable(f"{entry.url}: not repaired: {repaired.unrepaired[number]}"))


def _checked(manifest: Manifest) -> str:
    return (
        f"{counted(manifest.utterances, 'utterance')} in {counted(len(manifest.shards), 'shard')},"
        f" {manifest.bytes / 1e6:.1f} MB"
    )
