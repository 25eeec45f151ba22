"""dataprep extract: archives to the folders that the published lists expect."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shard_tools.dataprep.archive_lists import Lists, chosen, read_lists
from shard_tools.dataprep.archive_places import (
    VOXCELEB1,
    VOXCELEB1_PARTS,
    is_archive,
    place_of,
)
from shard_tools.dataprep.done import Done
from shard_tools.dataprep.finished import Finished
from shard_tools.dataprep.options import add_command, add_lists, add_only, add_save_path
from shard_tools.dataprep.parts import PartsFile
from shard_tools.dataprep.progress import Progress
from shard_tools.dataprep.unpack import unpack
from shard_tools.errors import UserError
from shard_tools.pack.listing import ProblemsError
from shard_tools.text import counted

_ABOUT = """\
Extract the archives that lie in FOLDER, each into its place below it:

  vox1_dev_wav.zip    voxceleb1/dev/wav/id10001/…        vox2_dev_aac.zip    voxceleb2/dev/aac/id00012/…
  vox1_test_wav.zip   voxceleb1/test/wav/id10270/…       vox2_test_aac.zip   voxceleb2/test/aac/id00017/…
  musan.tar.gz        musan/{music,noise,speech}/…       rirs_noises.zip     RIRS_NOISES/…

When both parts of VoxCeleb1 are there, voxceleb1/wav has links to the speakers of both, which the trials of
VoxCeleb1-E and -H draw on. An archive must have the MD5 of the lists. Its folder gets its name when all of
it is there and has the right checksums; what was interrupted is gone on with by the same command. An archive
that holds links, devices, names that lead elsewhere, or that would grow a hundred times, is refused.
"""
_EXAMPLES = """\
Examples:
  dataprep extract --save-path data
  dataprep extract --save-path data --from-parts       # saves the room of the joined archives
  dataprep extract --save-path data --only 'vox1*'
"""


@dataclass
class ExtractSummary:
    """extracted, there: names of archives; files: in those extracted now."""

    extracted: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    files: int = 0


@dataclass(frozen=True)
class _Archive:
    name: str
    md5: str
    place: str
    parts: tuple[tuple[str, str], ...] = ()  # name, MD5


def add_parser(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "extract",
        _run,
        help="unpack archives to where lists expect them",
        description=_ABOUT,
        epilog=_EXAMPLES,
    )
    add_save_path(parser)
    add_only(parser, "of an archive")
    parser.add_argument(
        "--from-parts",
        action="store_true",
        help="read the parts of an archive as one file, without joining them",
    )
    add_lists(parser)


def _run(options: argparse.Namespace) -> None:
    summary = extract(
        options.save_path, read_lists(options.lists), only=options.only, from_parts=options.from_parts
    )
    print(
        f"{options.save_path}: {counted(len(summary.extracted), 'archive')} extracted"
        f" ({counted(summary.files, 'file', ',')}), {len(summary.there)} before"
    )


def extract(
    save_path: Path, lists: Lists, *, only: Sequence[str] = (), from_parts: bool = False, quiet: bool = False
) -> ExtractSummary:
    """Extract the archives of `lists` whose names match `only`; all that lie in `save_path` without it.

    from_parts: those that are not joined are read from their parts. Raises ProblemsError where some
    failed, UserError where there is none.
    """
    archives = _archives(lists)
    picked = chosen([each.name for each in archives], only, what="listed archive")
    finished = Finished(save_path)
    done = Done(save_path, lists, finished)
    summary, problems = ExtractSummary(), []
    with Progress("extracting", quiet=quiet) as progress:
        for archive in archives:
            if archive.name not in picked:
                continue
            folder = place_of(archive.name).folder
            try:
                if finished.has_folder(folder, archive.md5):
                    progress.note(f"{archive.name}: is extracted to {folder}")
                    summary.there.append(archive.name)
                    continue
                paths = _paths(archive, save_path, done, from_parts)
                if paths is None:
                    if only:
                        raise UserError(
                            f"{archive.name}: is not in {save_path}; dataprep download fetches it"
                        )
                    progress.note(f"{archive.name}: left out: it is not in {save_path}")
                    continue
                count = _extract(archive, paths, save_path, progress)
                finished.add_folder(folder, archive.md5)
                progress.note(f"{archive.name}: {counted(count, 'file', ',')} in {folder}")
                summary.files += count
                summary.extracted.append(archive.name)
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise ProblemsError(problems, "what was extracted before is kept")
    if not summary.extracted and not summary.there:
        raise UserError(f"{save_path}: holds none of the listed archives; dataprep download fetches them")
    _link_speakers(save_path)
    return summary


def _archives(lists: Lists) -> list[_Archive]:
    """The joined ones, and those that came whole."""
    joined = [
        _Archive(
            each.name, each.md5, each.place, tuple((part.name, part.md5) for part in lists.parts_of(each))
        )
        for each in lists.files
    ]
    whole = [_Archive(each.name, each.md5, each.place) for each in lists.downloads]
    names = {each.name for each in joined}
    return [
        each
        for each in (*joined, *(each for each in whole if each.name not in names))
        if is_archive(each.name)
    ]


def _paths(archive: _Archive, save_path: Path, done: Done, from_parts: bool) -> list[Path] | None:
    """The files that hold the archive, their MD5 right; None where nothing of it is there."""
    path = save_path / archive.name
    if path.is_file():
        if not done.is_right(archive.name, archive.md5):
            raise UserError(
                f"{path}: has not the MD5 of {archive.place}, {archive.md5}: damaged, or of another release;"
                " remove it and run dataprep download (and concatenate) again"
            )
        return [path]
    there = [name for name, _ in archive.parts if (save_path / name).is_file()]
    if not there:
        return None
    if not from_parts:
        raise UserError(
            f"{archive.name}: only its parts are in {save_path}; run dataprep concatenate first, or give"
            " --from-parts"
        )
    missing = [name for name, _ in archive.parts if name not in there]
    if missing:
        raise UserError(f"{archive.name}: {', '.join(missing)} is not there; dataprep download fetches it")
    wrong = [name for name, md5 in archive.parts if not done.is_right(name, md5)]
    if wrong:
        raise UserError(
            f"{archive.name}: {', '.join(wrong)} has not its MD5: damaged, or of another release;"
            " dataprep download mends it"
        )
    return [save_path / name for name in there]


def _extract(archive: _Archive, paths: list[Path], save_path: Path, progress: Progress) -> int:
    try:
        with PartsFile(paths) as parts, io.BufferedReader(parts, 2**20) as source:
            return unpack(source, archive.name, parts.size, save_path, place_of(archive.name), progress)
    except OSError as error:
        raise UserError(
            f"{archive.name}: {error.filename or save_path}: {error.strerror or error}"
        ) from error


def _link_speakers(save_path: Path) -> None:
    """One folder with all speakers of VoxCeleb1, when both of its parts are there."""
    if not all((save_path / part).is_dir() for part in VOXCELEB1_PARTS):
        return
    links = save_path / VOXCELEB1
    try:
        links.mkdir(exist_ok=True)
        for part in VOXCELEB1_PARTS:
            for speaker in sorted(os.listdir(save_path / part)):
                link = links / speaker
                if not os.path.lexists(link):
                    link.symlink_to(os.path.relpath(save_path / part / speaker, links))
    except OSError as error:
        raise UserError(f"{links}: links cannot be made there ({error.strerror})") from error
