"""Which archives there are: fileparts.txt, files.txt and augment.txt, and whether they fit each other.

The formats are those of the VoxCeleb trainer (clovaai/voxceleb_trainer, lists/). Lines that start with "#"
are comments; a byte-order mark, CRLF, tabs and blanks at a line's end are taken as meant.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from shard_tools.errors import UserError
from shard_tools.text import has_control

_MD5 = re.compile(r"[0-9a-fA-F]{32}")
_PART = re.compile(r"(?P<stem>.+_part)(?P<letters>[a-z]{2,})")
_LINE_END = re.compile(r"\r\n|[\r\n]")
_LARGEST = 16 * 2**20
_CHECKOUT = Path(__file__).parents[2] / "lists"

FILEPARTS, FILES, AUGMENT = "fileparts.txt", "files.txt", "augment.txt"


@dataclass(frozen=True)
class Listed:
    """A file to download. urls: where it is, besides the mirrors; place: of its line ("fileparts.txt:3").

    open_to_all: at its URLs alone, and nobody is asked who he is.
    """

    name: str
    md5: str
    place: str
    urls: tuple[str, ...] = ()
    open_to_all: bool = False


@dataclass(frozen=True)
class Joined:
    """An archive that is the files matching `pattern` one after the other, in the order of their names."""

    pattern: str
    name: str
    md5: str
    place: str


@dataclass(frozen=True)
class Lists:
    """The three lists of a folder."""

    folder: Path
    fileparts: list[Listed]
    files: list[Joined]
    augment: list[Listed]

    @property
    def downloads(self) -> list[Listed]:
        """All that is downloaded."""
        return [*self.fileparts, *self.augment]

    def parts_of(self, archive: Joined) -> list[Listed]:
        """Its parts in order."""
        found = [part for part in self.fileparts if fnmatchcase(part.name, archive.pattern)]
        return sorted(found, key=lambda part: part.name)

    def joined_from(self, part: Listed) -> Joined | None:
        """The archive that it is a part of, if any."""
        return next((each for each in self.files if fnmatchcase(part.name, each.pattern)), None)


def read_lists(folder: Path | None) -> Lists:
    """The lists in `folder`; None: those that come with the project. UserError where one cannot be read."""
    paths = _shipped() if folder is None else {name: folder / name for name in (FILEPARTS, FILES, AUGMENT)}
    return Lists(
        paths[FILEPARTS].parent,
        _downloads(paths[FILEPARTS], open_to_all=False),
        _joined(paths[FILES]),
        _downloads(paths[AUGMENT], open_to_all=True),
    )


def names_in(path: Path) -> list[str]:
    """The names in a list of finished files, as the VoxCeleb trainer's users keep one; none without it."""
    if not path.is_file():
        return []
    names = (line.split()[0] for _, line in _lines(path))
    return [posixpath.basename(name) for name in names if not name.endswith("/")]


def chosen(names: Sequence[str], patterns: Sequence[str], *, what: str) -> set[str]:
    """Those of `names` that match one of `patterns`; all of them without any.

    Raises UserError for a pattern that matches none.
    """
    if not patterns:
        return set(names)
    found = {pattern: {name for name in names if fnmatchcase(name, pattern)} for pattern in patterns}
    for pattern, matching in found.items():
        if not matching:
            raise UserError(f"--only {pattern}: matches no {what}; there are: {', '.join(names)}")
    return set().union(*found.values())


def misfits(lists: Lists, finished: Sequence[str]) -> list[str]:
    """Which file is missing from which list, a line each. finished: names that finished.txt has."""
    lines = []
    for archive in lists.files:
        if not lists.parts_of(archive):
            lines.append(
                f"{FILES} joins {archive.pattern} to {archive.name}, but no such part is in {FILEPARTS}"
            )
    letters: dict[str, list[str]] = {}
    for part in lists.fileparts:
        match = _PART.fullmatch(part.name)
        if match is None:
            continue
        letters.setdefault(match["stem"], []).append(match["letters"])
        if lists.joined_from(part) is None:
            lines.append(f"{FILEPARTS} lists {part.name}, but no pattern of {FILES} joins it")
    for stem, found in letters.items():
        for name in _gaps(sorted(found)):
            lines.append(f"{stem}{name} is missing from {FILEPARTS}, which lists parts before and after it")
    known = {each.name for each in lists.downloads} | {each.name for each in lists.files}
    for name in finished:
        if name not in known:
            lines.append(f"finished.txt has {name}, which is missing from {FILEPARTS}, {FILES} and {AUGMENT}")
    return lines


def _gaps(letters: list[str]) -> Iterator[str]:
    """Between "aa" and "ad" those of "ab" and "ac" that are absent, as split(1) counts; "aa" is the first."""
    if any(len(each) != len(letters[0]) for each in letters):
        return
    last = _number(letters[-1])
    if last > 26**2:  # no sequence
        return
    present = {_number(each) for each in letters}
    for number in range(last):
        if number not in present:
            yield _letters(number, len(letters[0]))


def _number(letters: str) -> int:
    value = 0
    for letter in letters:
        value = value * 26 + ord(letter) - ord("a")
    return value


def _letters(number: int, length: int) -> str:
    text = ""
    for _ in range(length):
        number, rest = divmod(number, 26)
        text = chr(ord("a") + rest) + text
    return text


def _shipped() -> dict[str, Path]:
    if (_CHECKOUT.parent / "setup.cfg").is_file():
        return {name: _CHECKOUT / name for name in (FILEPARTS, FILES, AUGMENT)}
    installed = metadata.files("voxshard") or []
    found = {
        each.name: Path(str(each.locate())) for each in installed if each.match("*/voxshard/lists/*.txt")
    }
    if not {FILEPARTS, FILES, AUGMENT} <= found.keys():
        raise UserError("the lists of archives were not installed; give a folder that has them with --lists")
    return found


def _downloads(path: Path, *, open_to_all: bool) -> list[Listed]:
    rows: dict[str, Listed] = {}
    for place, line in _lines(path):
        fields = line.rsplit(maxsplit=1)
        if len(fields) == 2 and not _MD5.fullmatch(fields[1]):  # as md5sum prints them
            first, *rest = line.split(maxsplit=1)
            fields = [rest[0].lstrip("*"), first] if rest else fields
        if len(fields) != 2 or not _MD5.fullmatch(fields[1]):
            raise UserError(f"{place}: {line[:80]!r} is not a name and an MD5 of 32 hexadecimal digits")
        where, md5 = fields[0], fields[1].lower()
        is_url = "://" in where
        name = unquote(posixpath.basename(urlsplit(where).path)) if is_url else where
        _check_name(name, place)
        row = rows.get(name)
        if row is None:
            urls = (where,) if is_url else ()
            rows[name] = Listed(name, md5, place, urls, open_to_all)
        elif row.md5 != md5:
            raise UserError(f"{place}: {name} has another MD5 than at {row.place}; leave one of them")
        elif is_url and where not in row.urls:
            rows[name] = Listed(name, md5, row.place, (*row.urls, where), open_to_all)
    return list(rows.values())


def _joined(path: Path) -> list[Joined]:
    rows: dict[str, Joined] = {}
    for place, line in _lines(path):
        fields = line.split()
        if len(fields) != 3 or not _MD5.fullmatch(fields[2]):
            raise UserError(
                f"{place}: {line[:80]!r} is not a pattern, a name and an MD5 of 32 hexadecimal digits"
            )
        pattern, name, md5 = fields
        _check_name(name, place)
        if name in rows:
            raise UserError(f"{place}: {name} is joined at {rows[name].place} already; leave one of them")
        rows[name] = Joined(pattern, name, md5.lower(), place)
    return list(rows.values())


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path}: is larger than a list of archives can be")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); --lists names a folder with {FILEPARTS}, {FILES}"
            f" and {AUGMENT}"
        ) from error
    for number, line in enumerate(_LINE_END.split(text), 1):
        line = line.strip()
        if line and not line.startswith("#"):
            yield f"{path}:{number}", line


def _check_name(name: str, place: str) -> None:
    if not name or "/" in name or name.startswith(".") or has_control(name):
        raise UserError(f"{place}: {name!r} is no name of a file; a name, or a URL that ends in one")
