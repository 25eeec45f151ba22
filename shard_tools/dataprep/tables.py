"""Tables with named columns, and what they say of speakers' genders."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import Literal

from shard_tools.errors import UserError
from shard_tools.pack.listing import read_lines

_SEPARATORS = "\t|,;"
_GENDERS = {"m": "m", "male": "m", "male_masculine": "m", "f": "f", "female": "f", "female_feminine": "f"}
_LONGEST_FIELD = 1 << 20


def rows(url: str, columns: Sequence[str], options: Sequence[str]) -> Iterator[tuple[int, list[str | None]]]:
    """(line, the fields of these columns) of each row of a CSV or TSV file; None where a row has not so many.

    The first line names the columns; what parts them is the tab, semicolon, bar or comma that it holds. A
    column called "" gives None in each row. options: what names each column, for messages. Raises UserError
    for a column that is not there.
    """
    lines = read_lines(url)
    header = next((line for _, line in lines if line.strip()), "")
    separator = _separator(header)
    names = [name.strip() for name in next(csv.reader([header], delimiter=separator), [])]
    places: list[int | None] = []
    for column, option in zip(columns, options, strict=True):
        if column and column not in names:
            raise UserError(f"{url}: no column {column!r}; its columns are {', '.join(names)}; {option}")
        places.append(names.index(column) if column else None)
    csv.field_size_limit(_LONGEST_FIELD)
    reader = csv.reader((line + "\n" for _, line in lines), delimiter=separator, quoting=_quoting(separator))
    first = 2  # of what follows the header, where no blank lines stand before it
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield (
                    first + reader.line_num - 1,
                    [
                        None if place is None or place >= len(fields) else fields[place].strip()
                        for place in places
                    ],
                )
    except csv.Error as error:
        raise UserError(f"{url}:{first + reader.line_num - 1}: not a table ({error})") from error


def column_names(url: str) -> list[str]:
    """The names in a table's first line."""
    header = next((line for _, line in read_lines(url) if line.strip()), "")
    return [name.strip() for name in next(csv.reader([header], delimiter=_separator(header)), [])]


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
        fields = [field.strip(" ;\t") for field in (line.split(separator) if separator else _split(line))]
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


def _quoting(separator: str) -> Literal[0, 3]:
    return csv.QUOTE_NONE if separator == "\t" else csv.QUOTE_MINIMAL
