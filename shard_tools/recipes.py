"""`voxshard recipes`: the recipes and lists that come with the project, in a checkout and in a wheel."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from shard_tools import storage
from shard_tools.errors import UserError, exit_status
from shard_tools.options import local_folder
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  voxshard recipes                  # their names, and the first line of each
  voxshard recipes configs          # copies of them, to train with or to change
"""
_CHECKOUT = Path(__file__).parents[1] / "configs"


def recipes() -> dict[str, bytes]:
    """File name → content, sorted."""
    if (_CHECKOUT.parent / "setup.cfg").is_file():
        paths = list(_CHECKOUT.glob("*.yaml"))
    else:  # as the wheel has put them
        installed = metadata.files("voxshard") or []
        paths = [Path(str(each.locate())) for each in installed if each.match("*/voxshard/configs/*.yaml")]
    return {path.name: path.read_bytes() for path in sorted(paths)}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    return exit_status(lambda: _run(_parser().parse_args(argv)), program="recipes")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="voxshard recipes",
        description="List the recipes that come with the project, or copy them into a folder.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", metavar="FOLDER", nargs="?", type=local_folder, help="where copies go; made if absent"
    )
    add_version(parser)
    return parser


def _run(options: argparse.Namespace) -> None:
    found = recipes()
    if options.folder is None:
        width = max(map(len, found), default=0)
        for name, content in found.items():
            print(f"{name:<{width}}  {content.decode().splitlines()[0].lstrip('# ')}")
        return
    for name, content in found.items():
        path = options.folder / name
        if path.exists() and path.read_bytes() != content:
            raise UserError(f"{path} is there, and another one: give another folder, or move it")
        storage.publish_bytes(str(path), content)
    print(f"{options.folder}: {len(found)} recipes")


if __name__ == "__main__":
    sys.exit(main())
