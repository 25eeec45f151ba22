"""Trial lists: which pairs of utterances are compared, and whether they are of one speaker."""

from __future__ import annotations

import codecs
import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools import storage
from shard_tools.arrays import Int64Array
from shard_tools.errors import UserError
from shard_tools.text import has_control

LONGEST_PATH = 1024  # as S3's longest key
_SHOWN = 10  # of the lines that are wrong


@dataclass(frozen=True, eq=False)
class Trials:
    """A trial list as columns: trial t compares `names[left[t]]` with `names[right[t]]`.

    label: int8 (T,), 1 where both are of one speaker (target trials), 0 elsewhere, -1 in a list that does
    not say;
    left, right: int64 (T,); names: the distinct utterances in order of appearance;
    name: the list's file name; digest: SHA-256 of its bytes, in hex.
    """

    label: npt.NDArray[np.int8]
    left: Int64Array
    right: Int64Array
    names: list[str]
    name: str
    digest: str

    def __len__(self) -> int:
        return len(self.label)

    @property
    def labelled(self) -> bool:
        """Whether the list says which trials are target trials: without, there are scores and no rates."""
        return bool(len(self.label) and self.label[0] >= 0)


def read_trials(url: str) -> Trials:
    """Read a list of lines `label path path`, the format of the VoxCeleb test lists, or of `path path`.

    Fields are parted by blanks or tabs; where a line has just two tabs (one, without labels) these part its
    fields, whose paths may then hold blanks. Empty lines may only end the file, a byte-order mark may begin
    it. A list is one without labels where most of its lines have two fields. A trial may be repeated, or
    compare an utterance with itself. Raises UserError, with the first lines' numbers and how many there are,
    for lines that are not of this form, for paths that do not start from the data folder, for a trial that
    has both labels, for an empty list, and for labels that lack target or non-target trials.
    """
    data = storage.read_bytes(url)
    lines = _text(data, url).rstrip().splitlines()
    if not lines:
        raise UserError(f"{url}: the trial list is empty; expected lines of the form 'label path path'")
    rows = [_fields(line) for line in lines]
    counts = [len(row) for row in rows]
    labelled = 2 * counts.count(2) <= len(counts)
    wrong: list[tuple[int, str]] = []
    place: dict[bytes, int] = {}
    label = np.full(len(lines), -1, np.int8)
    left, right = np.empty(len(lines), np.int64), np.empty(len(lines), np.int64)
    for number, row in enumerate(rows):
        if len(row) != 2 + labelled:
            wrong.append((number, _wrong_fields(lines[number], len(row), labelled)))
            continue
        if labelled:
            if row[0] not in (b"0", b"1"):
                said = "the label must be 1 (one speaker) or 0 (two speakers), found"
                wrong.append((number, f"{said} {_shown(row[0], 40)}"))
                continue
            label[number] = row[0] == b"1"
        left[number] = place.setdefault(row[-2], len(place))
        right[number] = place.setdefault(row[-1], len(place))
    _refuse(wrong, url)
    targets = int(np.count_nonzero(label > 0))
    if labelled and targets in (0, len(label)):
        lacking = "target trials (label 1)" if targets == 0 else "non-target trials (label 0)"
        raise UserError(f"{url}: none of the {len(label)} trials are {lacking}; error rates need both kinds")
    names = _names(place, rows, url)
    _refuse(_contradictions(label, left, right, len(names)), url)
    return Trials(
        label=label,
        left=left,
        right=right,
        names=names,
        name=url.rstrip("/").rsplit("/", 1)[-1],
        digest=hashlib.sha256(data).hexdigest(),
    )


def repeated(trials: Trials) -> int:
    """How many trials stand in the list once more, whichever side is written first."""
    return len(trials) - len(np.unique(_pairs(trials.left, trials.right, len(trials.names))))


def _pairs(left: Int64Array, right: Int64Array, names: int) -> Int64Array:
    """A number for each pair of utterances, whichever of them is on the left."""
    return np.minimum(left, right) * np.int64(names) + np.maximum(left, right)


def _contradictions(
    label: npt.NDArray[np.int8], left: Int64Array, right: Int64Array, names: int
) -> list[tuple[int, str]]:
    """The lines whose trial stands with the other label further up."""
    pairs = _pairs(left, right, names)
    _, first, of = np.unique(pairs, return_index=True, return_inverse=True)
    return [
        (int(line), f"the trial of line {int(first[of[line]]) + 1} with the label {int(label[line])}, there "
         f"{int(label[first[of[line]]])}")
        for line in np.flatnonzero(label != label[first[of]])
    ]  # fmt: skip


def _refuse(wrong: list[tuple[int, str]], url: str) -> None:
    """Raise UserError where lines are `wrong`: (counted from 0, what is wrong), the first ten and a count."""
    if not wrong:
        return
    said = "; ".join(f"line {number + 1}: {what}" for number, what in wrong[:_SHOWN])
    if len(wrong) == 1:
        raise UserError(f"{url}, {said}")
    more = "" if len(wrong) <= _SHOWN else "; …"
    raise UserError(f"{url}: {len(wrong):,} lines are wrong: {said}{more}")


def _text(data: bytes, url: str) -> bytes:
    """UTF-8 without its byte-order mark. UserError for UTF-16, which some editors write."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{url}: the trial list is UTF-16 text; save it as UTF-8")
    return data.removeprefix(codecs.BOM_UTF8)


def _fields(line: bytes) -> list[bytes]:
    by_tabs = [field.strip() for field in line.split(b"\t")]
    return by_tabs if len(by_tabs) in (2, 3) and all(by_tabs) and _is_of_tabs(by_tabs) else line.split()


def _is_of_tabs(fields: list[bytes]) -> bool:
    """Whether tabs alone part the fields: of two, one may be a label and a path that a blank parts."""
    return len(fields) == 3 or fields[0].split(None, 1)[0] not in (b"0", b"1")


def _wrong_fields(line: bytes, found: int, labelled: bool) -> str:
    expected = "3 fields 'label path path'" if labelled else "2 fields 'path path', as most lines have"
    said = f"expected {expected}, found {found}: {_shown(line.strip(), 120)}"
    if found > 2 + labelled:
        return f"{said}; where paths hold blanks, part the fields by tabs"
    if b"," in line:
        return f"{said}; fields are parted by blanks or tabs, not by commas"
    return said


def _names(place: dict[bytes, int], rows: list[list[bytes]], url: str) -> list[str]:
    """The paths as text. UserError, with their lines, for those that no utterance below a folder can have."""
    names: list[str] = []
    problems: dict[bytes, str] = {}
    for path in place:
        try:
            name = path.decode()
        except UnicodeDecodeError:
            problems[path] = "is not UTF-8 text"
            continue
        names.append(name)
        if len(name) > LONGEST_PATH:
            problems[path] = f"has {len(name)} characters, more than a path may have"
        elif has_control(name):
            problems[path] = "holds control characters"
        elif name.startswith("/") or ".." in name.split("/"):
            problems[path] = "does not start from the data folder; write paths relative to it"
    if problems:
        wrong = [
            (number, f"the path {_shown(path, 120)} {problems[path]}")
            for number, row in enumerate(rows)
            for path in row[-2:]
            if path in problems
        ]
        _refuse(wrong, url)
    return names


def _shown(text: bytes, longest: int) -> str:
    return repr(text[:longest].decode(errors="replace"))
