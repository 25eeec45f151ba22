"""dataprep: the command line of what comes before packing. Each subcommand is a module of this room.

Such a module has `add_parser(subparsers)`, which adds the subcommand's parser, with `command` as a default:
a function from the parsed options to the exit status (None counts as 0).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from shard_tools.errors import exit_status
from shard_tools.version import add_version

PROGRAM = "dataprep"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `dataprep`; returns the exit status."""

    def command() -> int | None:
        options = _parser().parse_args(arguments)
        status: int | None = options.command(options)
        return status

    return exit_status(command, program=PROGRAM)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Bring speech corpora from their publishers' archives to audio that make-shards packs.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in _subcommands():
        module.add_parser(subparsers)
    return parser


def _subcommands() -> tuple[Any, ...]:
    """In the order in which one runs them. Processes of `convert` import this file, and need none of them."""
    from shard_tools.dataprep import augment, concatenate, convert, download, extract, lists

    return download, concatenate, extract, convert, augment, lists
