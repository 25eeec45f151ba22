"""Corpora as their publishers lay them out: which file is whose."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from shard_tools.dataprep import tables
from shard_tools.dataprep.utterances import Found, OnDisk, relative, stem, walk
from shard_tools.errors import UserError
from shard_tools.pack.listing import read_lines

_ID_VIDEO = re.compile(r"(?:^|.*/)((id\d{5,6})/[^/]+/[^/]+)$")
_LIBRISPEECH = re.compile(r"(?:^|.*/)(\d+)/(\d+)/\1-\2-\d+\.[^/.]+$")
_CN_CELEB = re.compile(r"(?P<tree>^|.*/)data/(?P<speaker>id\d{5})/[^/]+$")
_META = ("vox1_meta.csv", "vox2_meta.csv")


@dataclass(frozen=True)
class Source:
    """root: the folder; files: lists or tables to read; the columns are of a CSV, gender's if there."""

    root: str
    files: Sequence[str] = ()
    speaker_column: str = "speaker"
    path_column: str = "path"
    gender_column: str | None = None


def folder(source: Source) -> Found:
    """The first folder of a path is the speaker."""
    found = Found()
    for path in walk(source.root):
        speaker, slash, _ = path.partition("/")
        if slash:
            found.add(source.root, speaker, path)
        else:
            found.problems.append(
                f"{os.path.join(source.root, path)}: lies in no speaker's folder; move it into one"
            )
    return found


def voxceleb(source: Source) -> Found:
    """Published lists ("speaker path", or iden_split.txt's "part path"), or everything below the root.

    A list's path is found below the root whatever folders are before its id and whatever its ending is now.
    """
    paths = walk(source.root)
    found = Found()
    _read_genders(found, [os.path.join(source.root, name) for name in _META])
    if not source.files:
        _by_id(found, source.root, paths)
        return found
    on_disk = OnDisk(source.root, paths, _from_id)
    for url in source.files:
        for number, line in read_lines(url):
            fields = line.split(maxsplit=1)
            if not fields:
                continue
            place = f"{url}:{number}"
            parts = _ID_VIDEO.match(fields[1].rstrip()) if len(fields) == 2 else None
            if parts is None:
                found.problems.append(
                    f"{place}: {line.strip()[:80]!r} is no line of VoxCeleb's lists, 'speaker"
                    " id/video/file.wav'"
                )
                continue
            if fields[0].startswith("id") and fields[0] != parts[2]:
                found.problems.append(f"{place}: {fields[1].rstrip()} is not of the speaker {fields[0]}")
                continue
            _add_listed(found, place, parts[2], fields[1].rstrip(), on_disk)
    return found


def voxblink2(source: Source) -> Found:
    """Folders of speakers (id000000) with folders of videos."""
    found = Found()
    _by_id(found, source.root, walk(source.root))
    return found


def librispeech(source: Source) -> Found:
    """speaker/chapter/speaker-chapter-0000.flac below subsets; genders of SPEAKERS.TXT, there or above."""
    found = Found()
    root = Path(source.root).absolute()
    above = (root, root / "LibriSpeech", root.parent)
    _read_genders(found, [str(folder / "SPEAKERS.TXT") for folder in above])
    for path in walk(source.root):
        parts = _LIBRISPEECH.match(path)
        if parts is None:
            found.problems.append(f"{source.root}: {path} is not speaker/chapter/speaker-chapter-number")
        else:
            found.add(source.root, parts[1], path)
    return found


def cnceleb(source: Source) -> Found:
    """data/id00000/*.flac of CN-Celeb 1 and 2. Of the first, whose data hold the speakers of its trials too,
    those of dev/dev.lst; what lies in eval is left out."""
    found = Found()
    trees: dict[str, set[str] | None] = {}
    held_out = elsewhere = 0
    for path in walk(source.root):
        parts = _CN_CELEB.match(path)
        if parts is None:
            if re.search(r"(^|/)eval/", path) is None:
                found.problems.append(f"{source.root}: {path} is not data/speaker/file, nor below eval")
            elsewhere += 1
            continue
        tree = os.path.join(source.root, parts["tree"])
        if tree not in trees:
            trees[tree] = _cnceleb_speakers(tree)
        allowed = trees[tree]
        if allowed is not None and parts["speaker"] not in allowed:
            held_out += 1
            continue
        found.add(source.root, parts["speaker"], path)
    if held_out or elsewhere:
        found.notes.append(
            f"left out: {held_out} files of speakers that no dev.lst names, {elsewhere} of eval"
        )
    return found


def commonvoice(source: Source) -> Found:
    """A table of one language, validated.tsv unless others are named; client_id is the speaker."""
    names = source.files or [os.path.join(source.root, "validated.tsv")]
    found = Found()
    on_disk = OnDisk(source.root, walk(source.root), lambda path: stem(path.rpartition("/")[2]))
    for url in names:
        wanted = ("client_id", "path", "gender" if "gender" in tables.column_names(url) else "")
        hints = ["is it a table of Common Voice?"] * 3
        for number, (speaker, path, gender) in tables.rows(url, wanted, hints):
            _add_row(found, f"{url}:{number}", speaker, path, gender, on_disk, source.root)
    return found


def csv_file(source: Source) -> Found:
    """Columns of tables; a path is relative to the root, or absolute and below it."""
    if not source.files:
        raise UserError("a list from a CSV needs --from FILE")
    found = Found()
    on_disk = OnDisk(source.root, walk(source.root), stem)
    for url in source.files:
        gender_column = source.gender_column
        if gender_column is None:
            gender_column = "gender" if "gender" in tables.column_names(url) else ""
        wanted = (source.speaker_column, source.path_column, gender_column)
        hints = [f"name it with --{what}-column" for what in ("speaker", "path", "gender")]
        for number, (speaker, path, gender) in tables.rows(url, wanted, hints):
            _add_row(found, f"{url}:{number}", speaker, path, gender, on_disk, source.root)
    return found


LAYOUTS: dict[str, Callable[[Source], Found]] = {
    "folder": folder,
    "voxceleb": voxceleb,
    "librispeech": librispeech,
    "cnceleb": cnceleb,
    "voxblink2": voxblink2,
    "commonvoice": commonvoice,
    "csv": csv_file,
}
READ_FILES = ("voxceleb", "commonvoice", "csv")  # whose lists or tables --from names


def speaker_in(path: str) -> str:
    """The speaker that a path of any of these corpora tells, else its first folder."""
    for pattern, group in ((_ID_VIDEO, 2), (_LIBRISPEECH, 1), (_CN_CELEB, "speaker")):
        parts = pattern.match(path)
        if parts is not None:
            return str(parts[group])
    return path.partition("/")[0]


def _by_id(found: Found, root: str, paths: Sequence[str]) -> None:
    for path in paths:
        parts = _ID_VIDEO.match(path)
        if parts is None:
            found.problems.append(f"{root}: {path} is not id00000/video/file")
        else:
            found.add(root, parts[2], path)


def _from_id(path: str) -> str | None:
    parts = _ID_VIDEO.match(path)
    return None if parts is None else stem(parts[1])


def _add_listed(found: Found, place: str, speaker: str, listed: str, on_disk: OnDisk) -> None:
    try:
        found.add(place, speaker, on_disk.find(listed))
    except UserError as error:
        found.problems.append(f"{place}: {error}")


def _add_row(
    found: Found,
    place: str,
    speaker: str | None,
    path: str | None,
    gender: str | None,
    on_disk: OnDisk,
    root: str,
) -> None:
    if not speaker or not path:
        found.problems.append(f"{place}: the row has no {'path' if speaker else 'speaker'}")
        return
    try:
        listed = relative(path, root)
    except UserError as error:
        found.problems.append(f"{place}: {error}")
        return
    known = tables.gender(gender)
    if known is not None:
        found.genders.setdefault(speaker, known)
    _add_listed(found, place, speaker, listed, on_disk)


def _read_genders(found: Found, paths: Sequence[str]) -> None:
    for path in paths:
        if os.path.isfile(path):
            found.genders |= tables.genders(path)


def _cnceleb_speakers(tree: str) -> set[str] | None:
    """Whom this copy of CN-Celeb trains on; None: all of its data."""
    path = os.path.join(tree, "dev", "dev.lst")
    if os.path.isfile(path):
        return {line.strip() for _, line in read_lines(path)} - {""}
    if os.path.isdir(os.path.join(tree, "eval")):
        raise UserError(
            f"{path}: does not exist, and data holds the speakers of eval's trials too; put it back, it names"
            " those to train on"
        )
    return None
