"""`dataprep convert`: m4a and whatever else FFmpeg reads, into 16 kHz, mono, 16-bit WAV or FLAC."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from shard_tools.audio import SAMPLE_RATE, Codec
from shard_tools.dataprep.converting import Converted, Pair, convert_all, pairs_of
from shard_tools.dataprep.options import add_command, add_save_path
from shard_tools.errors import UserError
from shard_tools.options import MOST_WORKERS, local_path, whole_number
from shard_tools.pack.parts import Part, parse_part
from shard_tools.text import counted, printable
from shard_tools.workers import processors

_DESCRIPTION = """\
Convert every audio file below SOURCE into the file of the same name below OUT, 16 kHz, mono, 16-bit.
Without SOURCE and OUT: VoxCeleb2 as it was extracted, each folder voxceleb2/*/aac into wav beside it.

Decoded are m4a (AAC) and whatever else FFmpeg or libsndfile reads, in this program's own processes: PyAV
must be installed (pip install 'voxshard[prep]'), the program ffmpeg need not. Channels are averaged, rates
resampled, samples rounded. Files that fit already are written anew, sample for sample.

Files that are there, whole and not older than their source, are kept: the same command again finishes what
was interrupted. A file that is cut short or damaged fails alone; all that failed are listed at the end, one
a line, and the exit status is then 1. For training the WAVs need not be: make-shards pack --convert reads
the m4a.
"""

_EXAMPLES = """\
Examples:
  dataprep convert --save-path data
  dataprep convert commonvoice/clips commonvoice/wav --workers 8
  dataprep convert voxceleb2/dev/aac voxceleb2/dev/flac --format flac --part 3/16
"""


def add_parser(subparsers: Any) -> None:
    """The subcommand's parser."""
    parser = add_command(
        subparsers,
        "convert",
        _run,
        help="m4a and the like into WAV or FLAC",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
    )
    parser.add_argument(
        "source", metavar="SOURCE", nargs="?", type=local_path, help="folder below which audio lies"
    )
    parser.add_argument(
        "out", metavar="OUT", nargs="?", type=local_path, help="folder for the result; made if absent"
    )
    add_save_path(parser)
    parser.add_argument("--format", choices=("wav", "flac"), default="wav", help="default %(default)s")
    parser.add_argument(
        "--part", metavar="I/N", type=_part, help="the I-th of N parts of the files, I from 1 to N"
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole_number(1, MOST_WORKERS),
        default=processors(),
        help="processes (default: one a CPU, %(default)s here)",
    )


def _part(text: str) -> Part:
    try:
        return parse_part(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _run(options: argparse.Namespace) -> int:
    status = 0
    for source, out in _folders(options):
        pairs = _share(pairs_of(source, out, options.format), options.part)
        summary = convert_all(pairs, out, options.format, workers=options.workers, progress=True)
        _say(summary, source, out)
        status = max(status, int(bool(summary.failures)))
    return status


def _folders(options: argparse.Namespace) -> list[tuple[str, str]]:
    """(source, out) of what is to be converted."""
    if options.source is not None:
        if options.out is None:
            raise UserError(f"{options.source}: give the folder for the result too: SOURCE OUT")
        return [(options.source, options.out)]
    above = options.save_path / "voxceleb2"
    found: list[Path] = sorted(path for path in above.glob("*/aac") if path.is_dir())
    if not found:
        raise UserError(
            f"{above}: no folder */aac in it; run dataprep extract first, say where it lies with --save-path,"
            " or give SOURCE OUT"
        )
    codec: Codec = options.format
    return [(str(path), str(path.with_name(codec))) for path in found]


def _share(pairs: list[Pair], part: Part | None) -> list[Pair]:
    return pairs if part is None else [pairs[number] for number in part.numbers(len(pairs))]


def _say(summary: Converted, source: str, out: str) -> None:
    rate = summary.made / summary.seconds if summary.seconds else 0.0
    print(
        printable(
            f"{out}: {counted(summary.made, 'file')} converted, {summary.kept} kept,"
            f" {len(summary.failures)} failed; {summary.frames / SAMPLE_RATE / 3600:.2f} h of audio,"
            f" took {summary.seconds:.1f} s, {rate:.1f} files/s"
        )
    )
    if summary.clipped:
        print(
            f"samples beyond full scale were cut off there in {counted(len(summary.clipped), 'file')}",
            file=sys.stderr,
        )
    if summary.failures:
        sys.stdout.flush()
        print(f"{source}: {counted(len(summary.failures), 'file')} not converted:", file=sys.stderr)
        for line in summary.failures:
            print(printable(line), file=sys.stderr)
