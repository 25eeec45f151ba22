"""dataprep download: VoxCeleb's parts from the mirrors, MUSAN and RIRS_NOISES from OpenSLR."""

from __future__ import annotations

import argparse
from typing import Any

from shard_tools.dataprep import credentials
from shard_tools.dataprep.archive_lists import read_lists
from shard_tools.dataprep.files import gigabytes
from shard_tools.dataprep.options import add_command, add_lists, add_only, add_save_path
from shard_tools.options import whole_number
from shard_tools.text import counted

_ABOUT = """\
Download what the lists name into FOLDER: VoxCeleb1 and VoxCeleb2 as archives and parts of archives
(lists/fileparts.txt), MUSAN and RIRS_NOISES (lists/augment.txt). Registering for VoxCeleb gives a user and
a password, or a key: give them as options, in the environment (VOXCELEB_USER, VOXCELEB_PASSWORD, or
VOXCELEB_KEY), or let yourself be asked for them.

The same command again goes on where the last one was interrupted. A file is right when its MD5 is the
list's; what is right already is skipped, and FOLDER/lists/finished.txt keeps what is done. Dropped
connections and busy servers are asked again, then the next mirror; a file with a wrong MD5 is fetched anew
once. Whatever failed in the end is named, and the exit status is then 1.
"""
_EXAMPLES = """\
Examples:
  dataprep download --save-path data --user NAME
  dataprep download --save-path data --key --only 'vox2*' --only vox1_test_wav.zip
  dataprep download --save-path data --only musan.tar.gz --only rirs_noises.zip    # open to everyone
  dataprep download --save-path data --mirror https://mirror.example.org/voxceleb
"""


def add_parser(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "download",
        _run,
        help="fetch VoxCeleb's archives, MUSAN and RIRS_NOISES",
        description=_ABOUT,
        epilog=_EXAMPLES,
    )
    add_save_path(parser)
    credentials.add_options(parser)
    add_only(parser, "of a file or of the archive that it is a part of")
    parser.add_argument(
        "--mirror",
        metavar="URL",
        action="append",
        default=[],
        help="where the files of fileparts.txt are, instead of the usual places; several are asked in order;"
        " {name} and {key} in it are replaced, else the name is appended",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, 64),
        default=4,
        help="files at once (default %(default)s)",
    )
    parser.add_argument(
        "--tries",
        metavar="N",
        type=whole_number(1, 1000),
        default=10,
        help="failures in a row before the next mirror is asked (default %(default)s)",
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="do not verify TLS certificates: anyone on the way can then read passwords",
    )
    add_lists(parser)


def _run(options: argparse.Namespace) -> None:
    from shard_tools.dataprep.downloading import download  # its HTTP client takes its time to load
    from shard_tools.dataprep.fetch import Patience

    summary = download(
        options.save_path,
        read_lists(options.lists),
        credentials=credentials.from_options(options),
        mirrors=options.mirror,
        only=options.only,
        workers=options.workers,
        patience=Patience(tries=options.tries),
        insecure=options.insecure,
    )
    print(
        f"{options.save_path}: {counted(len(summary.fetched) + len(summary.there), 'file')} complete:"
        f" {len(summary.fetched)} completed now ({gigabytes(summary.bytes)}), {len(summary.there)} before"
    )
