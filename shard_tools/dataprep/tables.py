"""Tables with named columns, and what they say of speakers' genders."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shard_tools.errors import UserError
from shard_tools.pack.listing import read_lines

_SEPARATORS = "\t|,;"
_GENDERS = {"m": "m", "male": "m", "male_masculine": "m", "f": "f", "female": "f", "female_feminine": "f"}
_LONGEST_FIELD = 1 << 20
_LONGEST_SHOWN = 300


@dataclass(frozen=True)
class _Table:
    """separator: of its fields; names: of its columns; lines: what follows the header; first: the number of
    the first of these lines."""

    separator: str
    names: list[str]
    lines: list[str]
    first: int


def rows(url: str, columns: Sequence[str], options: Sequence[str]) -> Iterator[tuple[int, list[str | None]]]:
    """(line, the fields of these columns) of each row of a CSV or TSV file; None where a row has not so many.

    The first line names the columns; what parts them is the tab, semicolon, bar or comma that it holds, or
    what a line "sep=;" before it says. A column called "" gives None in each row. options: what names each
    column, for messages. Raises UserError for a column that is not there or there twice, and for rows that
    cannot be what is meant: with more fields than columns, or with a quote that does not end.
    """
    table = _read(url)
    names = table.names
    places: list[int | None] = []
    for column, option in zip(columns, options, strict=True):
        if column and column not in names:
            raise UserError(
                f"{url}: no column {column!r}; its columns are {_short(', '.join(names))}; {option}"
            )
        if column and names.count(column) > 1:
            raise UserError(f"{url}: {names.count(column)} columns are called {column!r}; rename one")
        places.append(names.index(column) if column else None)
    csv.field_size_limit(_LONGEST_FIELD)
    quoted = table.separator != "\t"
    reader = csv.reader(
        (line + "\n" for line in table.lines),
        delimiter=table.separator,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        strict=True,
    )
    number, empty = table.first, True
    try:
        for fields in reader:
            # A tab is in no path, and tables of tabs have texts that nobody looks at.
            if quoted and any(field.strip() for field in fields[len(names) :]):
                raise UserError(
                    f"{url}:{number}: {len(fields)} fields, the first line names {len(names)} columns; put a"
                    f' field that holds "{table.separator}" in quotes'
                )
            if any(field.strip() for field in fields):
                empty = False
                yield (
                    number,
                    [
                        None if place is None or place >= len(fields) else fields[place].strip()
                        for place in places
                    ],
                )
            number = table.first + reader.line_num
    except csv.Error as error:
        raise UserError(f"{url}:{number}: not a row of a table ({error}); mend its quotes") from error
    if empty:
        raise UserError(f"{url}: names columns, and has no row below them")


def column_names(url: str) -> list[str]:
    """The names in a table's first line."""
    return _read(url).names


def _read(url: str) -> _Table:
    lines = [line for _, line in read_lines(url)]
    at = next((number for number, line in enumerate(lines) if line.strip()), None)
    if at is None:
        raise UserError(f"{url}: is empty; needed is a table whose first line names its columns")
    told = re.fullmatch(r'"?sep=(.)"?', lines[at].strip(" "), re.IGNORECASE)  # as Excel understands it
    if told is not None:
        at += 1
    header = lines[at].strip() if at < len(lines) else ""
    separator = told[1] if told is not None else _separator(header)
    try:
        names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    except csv.Error as error:
        raise UserError(f"{url}:{at + 1}: names no columns ({error})") from error
    return _Table(separator, names, lines[at + 1 :], at + 2)


def gender(text: str | None) -> str | None:
    """ "f", "m", or None for what is neither or unknown."""
    return _GENDERS.get((text or "").strip().lower())


def genders(url: str) -> dict[str, str]:
    """Gender ("f", "m") by speaker, of a table whose first column is the speaker.

    Such are vox1_meta.csv, vox2_meta.csv (a column "Gender") and LibriSpeech's SPEAKERS.TXT ("SEX"), or lines
    "speaker gender" without a header. Raises UserError when it says of no speaker.
    """
    found: dict[str, str] = {}
    separator: str | None = None
    place = 1
    for _, line in read_lines(url):
        fields = [field.strip(' ;\t"') for field in (line.split(separator) if separator else _split(line))]
        names = [field.lower() for field in fields]
        column = next((names.index(name) for name in ("gender", "sex") if name in names), None)
        if column is not None:
            place, separator = column, _separator(line)
        elif not line.startswith(";") and len(fields) > place:
            known = gender(fields[place])
            if known is not None and fields[0]:
                found[fields[0]] = known
    if not found:
        raise UserError(
            f"{url}: tells no gender; needed is a column 'gender' or 'sex', the speaker in the first, or"
            " lines 'speaker m' and 'speaker f'"
        )
    return found


def _split(line: str) -> list[str]:
    return line.split(_separator(line)) if any(mark in line for mark in _SEPARATORS) else line.split()


def _separator(line: str) -> str:
    return next((mark for mark in "\t|;," if mark in line.lstrip(";")), ",")


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
