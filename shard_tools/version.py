"""Which release this is."""

from __future__ import annotations

import argparse
from importlib import metadata


def version() -> str:
    """The version of the installed project; "unknown" where its files were only copied."""
    try:
        return metadata.version("voxshard")
    except metadata.PackageNotFoundError:
        return "unknown"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Give a command its `--version`."""
    parser.add_argument(
        "--version", action="version", version=f"voxshard {version()}", help="print it and exit"
    )
