"""`dataprep augment`: MUSAN and RIRS_NOISES into shards, a category for a speaker."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shard_tools import storage
from shard_tools.dataprep.options import add_command, add_save_path
from shard_tools.dataprep.splitting import PIECE_S, split
from shard_tools.errors import UserError
from shard_tools.options import add_workers, local_folder, place
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.pack.walk import audio_files

MUSAN = ("music", "noise", "speech")
# Of the simulated ones the VoxCeleb trainer takes these and leaves large rooms out.
ROOMS = ("mediumroom", "smallroom")

_DESCRIPTION = """\
Pack what recordings are augmented with: MUSAN into shards at URL/musan, in the categories music, noise and
speech, and the simulated impulse responses of RIRS_NOISES at URL/rirs, in the categories mediumroom and
smallroom (as the VoxCeleb trainer selects them: no large rooms, no measured ones). Both lie below
--save-path as they are extracted, musan and RIRS_NOISES, or where --musan and --rirs say.

MUSAN is packed as whole recordings, from which training reads crops. --split cuts it first, as the trainer
does, into pieces of 5 s that begin every 3 s, in the folder musan_split beside it; recordings of 5 s or less
give none. An interrupted run is finished by the same command.
"""

_EXAMPLES = """\
Examples:
  dataprep augment s3://bucket/augment --save-path data
  dataprep augment shards --only rirs --rirs corpora/RIRS_NOISES --format flac
"""


def add_parser(subparsers: Any) -> None:
    """The subcommand's parser."""
    parser = add_command(
        subparsers,
        "augment",
        _run,
        help="MUSAN and RIRS_NOISES into shards",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument("url", metavar="URL", type=place, help="below which the shards go: a path or URL")
    add_save_path(parser)
    parser.add_argument("--musan", metavar="FOLDER", type=local_folder, help="with music, noise and speech")
    parser.add_argument("--rirs", metavar="FOLDER", type=local_folder, help="with simulated_rirs")
    parser.add_argument("--only", choices=("musan", "rirs"), help="the one and not the other")
    parser.add_argument("--split", action="store_true", help="MUSAN in pieces of 5 s, as the trainer has it")
    parser.add_argument(
        "--format", choices=("keep", "wav", "flac"), default="keep", help="as of make-shards pack"
    )
    parser.add_argument("--convert", action="store_true", help="as of make-shards pack")
    parser.add_argument("--overwrite", action="store_true", help="as of make-shards pack")
    add_workers(parser)


def _run(options: argparse.Namespace) -> None:
    wanted = (options.only,) if options.only else ("musan", "rirs")
    musan = options.musan or options.save_path / "musan"
    rooms = (options.rirs or options.save_path / "RIRS_NOISES") / "simulated_rirs"
    if "musan" in wanted:
        _require(musan, MUSAN, "--musan")
    if "rirs" in wanted:
        _require(rooms, ROOMS, "--rirs")
    if "musan" in wanted:
        if options.split:
            pieces = musan.with_name(f"{musan.name}_split")
            done = split(musan, pieces, MUSAN, convert=options.convert, workers=options.workers)
            print(
                f"{pieces}: {done.pieces} pieces of {PIECE_S} s; {done.short} of {done.recordings} recordings"
                f" are of {PIECE_S} s or less and give none"
            )
            musan = pieces
        _pack(musan, MUSAN, storage.join(options.url, "musan"), options)
    if "rirs" in wanted:
        _pack(rooms, ROOMS, storage.join(options.url, "rirs"), options)


def _require(folder: Path, categories: Sequence[str], option: str) -> None:
    missing = [name for name in categories if not (folder / name).is_dir()]
    if missing:
        raise UserError(
            f"{folder}: no folder {', '.join(missing)} in it; extract it there, name another place with"
            f" {option}, or leave it out with --only"
        )


def _pack(root: Path, categories: Sequence[str], url: str, options: argparse.Namespace) -> None:
    from shard_tools.cli import summary_line  # which takes its time to load

    with tempfile.TemporaryDirectory(prefix="voxshard-") as folder:
        listed = os.path.join(folder, "list.txt")
        Path(listed).write_text("".join(_lines(root, categories)), encoding="utf-8")
        summary = pack(
            str(root),
            url,
            list_url=listed,
            options=PackOptions(format=options.format, convert=options.convert),
            workers=options.workers,
            overwrite=options.overwrite,
            progress=True,
        )
    print(summary_line(summary, url))


def _lines(root: Path, categories: Sequence[str]) -> list[str]:
    """ "category relative/path.wav" of every recording below the categories' folders."""
    lines: list[str] = []
    for category in categories:
        if not (root / category).is_dir():  # of short recordings alone, which give no piece
            continue
        paths, problems = audio_files(str(root / category))
        if problems:
            raise ProblemsError(problems, "nothing was packed")
        lines += [f"{category} {category}/{path}\n" for path in paths]
    if not lines:
        raise UserError(f"{root}: no .wav or .flac below {', '.join(categories)}")
    return lines
