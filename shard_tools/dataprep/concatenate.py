"""dataprep concatenate: parts of an archive to the archive, and then no parts any more."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shard_tools.dataprep.archive_lists import FILEPARTS, FILES, Joined, Listed, Lists, chosen, read_lists
from shard_tools.dataprep.archive_places import is_archive, place_of
from shard_tools.dataprep.done import Done
from shard_tools.dataprep.files import CHUNK, gigabytes, require_space
from shard_tools.dataprep.finished import Finished
from shard_tools.dataprep.options import add_command, add_lists, add_only, add_save_path
from shard_tools.dataprep.partial import Partial
from shard_tools.dataprep.parts import PartsFile
from shard_tools.dataprep.progress import Progress
from shard_tools.errors import UserError
from shard_tools.pack.listing import ProblemsError
from shard_tools.text import counted

_ABOUT = """\
Join the parts of each archive that lists/files.txt names, check the MD5 of the whole while it is written,
and only then remove the parts. A joining that was interrupted goes on where it was. The disk needs room for
an archive beside its parts; dataprep extract --from-parts does without.
"""
_EXAMPLES = """\
Examples:
  dataprep concatenate --save-path data
  dataprep concatenate --save-path data --only vox2_dev_aac.zip --keep-parts
"""


@dataclass
class JoinSummary:
    """joined, there: names of archives; bytes: of those joined now."""

    joined: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    bytes: int = 0


def add_parser(subparsers: Any) -> None:
    parser = add_command(
        subparsers,
        "concatenate",
        _run,
        help="join archives that came in parts",
        description=_ABOUT,
        epilog=_EXAMPLES,
    )
    add_save_path(parser)
    add_only(parser, "of a joined archive")
    parser.add_argument("--keep-parts", action="store_true", help="do not remove the parts")
    add_lists(parser)


def _run(options: argparse.Namespace) -> None:
    summary = concatenate(
        options.save_path, read_lists(options.lists), only=options.only, keep_parts=options.keep_parts
    )
    print(
        f"{options.save_path}: {counted(len(summary.joined), 'archive')} joined"
        f" ({gigabytes(summary.bytes)}), {len(summary.there)} before"
    )


def concatenate(
    save_path: Path, lists: Lists, *, only: Sequence[str] = (), keep_parts: bool = False, quiet: bool = False
) -> JoinSummary:
    """Join the archives of `lists` whose names match `only`; all that have parts at `save_path` without it.

    Raises ProblemsError where some could not be joined, UserError where there is nothing to join.
    """
    picked = chosen([each.name for each in lists.files], only, what=f"archive of {FILES}")
    finished = Finished(save_path)
    done = Done(save_path, lists, finished)
    summary, problems = JoinSummary(), []
    with Progress("joining", quiet=quiet) as progress:
        for archive in lists.files:
            if archive.name not in picked:
                continue
            parts = lists.parts_of(archive)
            try:
                if done.is_right(archive.name, archive.md5):
                    progress.note(f"{archive.name}: is there, MD5 right")
                    summary.there.append(archive.name)
                elif is_archive(archive.name) and finished.has_folder(
                    place_of(archive.name).folder, archive.md5
                ):
                    progress.note(f"{archive.name}: was extracted to {place_of(archive.name).folder}")
                    summary.there.append(archive.name)
                    continue
                elif not only and not any((save_path / part.name).is_file() for part in parts):
                    progress.note(f"{archive.name}: left out: none of its parts is in {save_path}")
                    continue
                else:
                    summary.bytes += _join(save_path, archive, parts, done, progress)
                    finished.add_file(archive.name, archive.md5)
                    summary.joined.append(archive.name)
                if not keep_parts:
                    for part in parts:
                        (save_path / part.name).unlink(missing_ok=True)
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise ProblemsError(problems, "the parts are all kept")
    if not summary.joined and not summary.there:
        raise UserError(f"{save_path}: holds no parts of archives; dataprep download fetches them")
    return summary


def _join(save_path: Path, archive: Joined, parts: Sequence[Listed], done: Done, progress: Progress) -> int:
    """Write the archive and publish it; its size."""
    if not parts:
        raise UserError(
            f"{archive.name}: no {archive.pattern} is in {FILEPARTS}, but {archive.place} joins them"
        )
    missing = [part.name for part in parts if not (save_path / part.name).is_file()]
    if missing:
        raise UserError(f"{archive.name}: {', '.join(missing)} is not there; dataprep download fetches it")
    path = save_path / archive.name
    with PartsFile([save_path / part.name for part in parts]) as source, Partial(path) as joined:
        progress.expect(source.size)
        joined.load(progress.have)
        resumed = joined.size > 0
        if joined.size > source.size:
            _clear(joined, progress)
        require_space(save_path, source.size - joined.size, archive.name)
        _copy(source, joined, progress)
        if joined.md5 != archive.md5 and resumed:
            progress.note(f"{archive.name}: what an earlier run had joined was damaged; begun anew")
            _clear(joined, progress)
            _copy(source, joined, progress)
        if joined.md5 != archive.md5:
            found = joined.md5
            joined.discard()
            raise UserError(_diagnosis(archive, parts, found, done))
        joined.publish()
        progress.note(f"{archive.name}: {gigabytes(source.size)}, MD5 right; all: {progress.state()}")
        return source.size


def _copy(source: PartsFile, joined: Partial, progress: Progress) -> None:
    source.seek(joined.size)
    try:
        while chunk := source.read(CHUNK):
            joined.write(chunk)
            progress.move(len(chunk))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error


def _clear(joined: Partial, progress: Progress) -> None:
    progress.move(-joined.size)
    joined.clear()


def _diagnosis(archive: Joined, parts: Sequence[Listed], found: str, done: Done) -> str:
    """Why the whole has not its MD5."""
    wrong = [part.name for part in parts if not done.is_right(part.name, part.md5)]
    text = f"{archive.name}: joined it has MD5 {found}, {archive.place} says {archive.md5}"
    if wrong:
        return f"{text}: {', '.join(wrong)} is not what {FILEPARTS} lists; dataprep download mends it"
    return f"{text}, though every part is as {FILEPARTS} lists it: the two lists are of different releases"
