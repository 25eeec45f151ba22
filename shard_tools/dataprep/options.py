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
