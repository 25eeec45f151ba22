"""Options that several subcommands of dataprep have, in the same words."""

from __future__ import annotations

import argparse
from typing import Any

from shard_tools.options import local_folder


def add_command(subparsers: Any, name: str, command: Any, **texts: Any) -> argparse.ArgumentParser:
    """A subcommand's parser; `command` takes the parsed options and returns the exit status."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name, formatter_class=argparse.RawDescriptionHelpFormatter, **texts
    )
    parser.set_defaults(command=command)
    return parser


def add_save_path(parser: argparse.ArgumentParser) -> None:
    """`--save-path FOLDER`, a Path: where archives lie and what is made of them goes."""
    parser.add_argument(
        "--save-path",
        "--save_path",  # as the VoxCeleb trainer spells it
        metavar="FOLDER",
        type=local_folder,
        default=local_folder("data"),
        help="where the archives lie, and what is made of them goes (default %(default)s)",
    )


def add_lists(parser: argparse.ArgumentParser) -> None:
    """`--lists FOLDER`, a Path or None."""
    parser.add_argument(
        "--lists",
        metavar="FOLDER",
        type=local_folder,
        help="of fileparts.txt, files.txt and augment.txt (default: those that come with the project)",
    )


def add_only(parser: argparse.ArgumentParser, whose: str) -> None:
    """`--only PATTERN`, a list of texts."""
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        action="append",
        default=[],
        help=f"as a shell's, of the name {whose}; may be given several times",
    )
