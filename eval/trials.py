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
    """Read a list of lines `label path path`, the format of the VoxCeleb test lists.

    Fields are parted by blanks or tabs; where a line has just two tabs these part its fields, whose
    paths may then hold blanks. Empty lines may only end the file, a byte-order mark may begin it. A
    trial may be repeated, or compare an utterance with itself. Raises UserError, with the line's number
    where there is one, for a line that is not of this form, for a path that does not start from the data
    folder, for an empty list, and for a list that lacks target or non-target trials.
    """
    data = storage.read_bytes(url)
    lines = _text(data, url).rstrip().splitlines()
    if not lines:
        raise UserError(f"{url}: the trial list is empty; expected lines of the form 'label path path'")
    place: dict[bytes, int] = {}
    labels = bytearray(len(lines))
    left: list[int] = []
    right: list[int] = []
    for number, line in enumerate(lines, start=1):
        fields = _fields(line)
        if len(fields) != 3:
            raise UserError(f"{url}, line {number}: {_wrong_fields(line, len(fields))}")
        if fields[0] == b"1":
            labels[number - 1] = 1
        elif fields[0] != b"0":
            raise UserError(
                f"{url}, line {number}: the label must be 1 (one speaker) or 0 (two speakers), "
                f"found {_shown(fields[0], 40)}"
            )
        left.append(place.setdefault(fields[1], len(place)))
        right.append(place.setdefault(fields[2], len(place)))
    label = np.frombuffer(bytes(labels), dtype=np.int8)
    targets = int(np.count_nonzero(label))
    if targets in (0, len(label)):
        lacking = "target trials (label 1)" if targets == 0 else "non-target trials (label 0)"
        raise UserError(f"{url}: none of the {len(label)} trials are {lacking}; error rates need both kinds")
    return Trials(
        label=label,
        left=np.array(left, dtype=np.int64),
        right=np.array(right, dtype=np.int64),
        names=[_name(path, url, lines) for path in place],
        name=url.rstrip("/").rsplit("/", 1)[-1],
        digest=hashlib.sha256(data).hexdigest(),
    )


def _text(data: bytes, url: str) -> bytes:
    """UTF-8 without its byte-order mark. UserError for UTF-16, which some editors write."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UserError(f"{url}: the trial list is UTF-16 text; save it as UTF-8")
    return data.removeprefix(codecs.BOM_UTF8)


def _fields(line: bytes) -> list[bytes]:
    by_tabs = [field.strip() for field in line.split(b"\t")]
    return by_tabs if len(by_tabs) == 3 and all(by_tabs) else line.split()


def _wrong_fields(line: bytes, found: int) -> str:
    said = f"expected 3 fields 'label path path', found {found}: {_shown(line.strip(), 120)}"
    if found > 3:
        return f"{said}; where paths hold blanks, part the three fields by tabs"
    if b"," in line:
        return f"{said}; fields are parted by blanks or tabs, not by commas"
    return said


def _name(path: bytes, url: str, lines: list[bytes]) -> str:
    """The path as text. UserError, with its line, for one that no utterance below a folder can have."""
    try:
        name = path.decode()
    except UnicodeDecodeError:
        problem = "is not UTF-8 text"
    else:
        if len(name) > LONGEST_PATH:
            problem = f"has {len(name)} characters, more than a path may have"
        elif has_control(name):
            problem = "holds control characters"
        elif name.startswith("/") or ".." in name.split("/"):
            problem = "does not start from the data folder; write paths relative to it"
        else:
            return name
    number = next(number for number, line in enumerate(lines, start=1) if path in _fields(line)[1:])
    raise UserError(f"{url}, line {number}: the path {_shown(path, 120)} {problem}")


def _shown(text: bytes, longest: int) -> str:
    return repr(text[:longest].decode(errors="replace"))
