"""Trial lists: which pairs of utterances are compared, and whether they are of one speaker."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shard_tools import storage
from shard_tools.errors import UserError


@dataclass(frozen=True, eq=False)
class Trials:
    """A trial list as columns: trial t compares `names[left[t]]` with `names[right[t]]`.

    label: int8 (T,), 1 where both are of one speaker (target trials) and 0 elsewhere;
    left, right: int64 (T,); names: the distinct utterances in order of appearance;
    name: the list's file name; digest: SHA-256 of its bytes, in hex.
    """

    label: npt.NDArray[np.int8]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    names: list[str]
    name: str
    digest: str

    def __len__(self) -> int:
        return len(self.label)


def read_trials(url: str) -> Trials:
    """Read a list of lines `label path path`, the format of the VoxCeleb test lists.

    Fields are parted by blanks or tabs; empty lines may only end the file. A trial
    may be repeated, or compare an utterance with itself. Raises UserError, with the
    line's number where there is one, for a line that is not of this form, for an
    empty list, and for a list that lacks target or non-target trials.
    """
    data = storage.read_bytes(url)
    name = url.rstrip("/").rsplit("/", 1)[-1]
    lines = data.rstrip().split(b"\n")
    if lines == [b""]:
        raise UserError(f"{url}: the trial list is empty; expected lines of the form 'label path path'")
    place: dict[bytes, int] = {}
    labels = bytearray(len(lines))
    left: list[int] = []
    right: list[int] = []
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if len(fields) != 3:
            raise UserError(
                f"{url}, line {number}: expected 3 fields 'label path path', "
                f"found {len(fields)}: {line[:120].decode(errors='replace').strip()!r}"
            )
        if fields[0] == b"1":
            labels[number - 1] = 1
        elif fields[0] != b"0":
            raise UserError(
                f"{url}, line {number}: the label must be 1 (one speaker) or 0 (two speakers), "
                f"found {fields[0][:40].decode(errors='replace')!r}"
            )
        left.append(place.setdefault(fields[1], len(place)))
        right.append(place.setdefault(fields[2], len(place)))
    try:
        names = [path.decode() for path in place]
    except UnicodeDecodeError:
        raise UserError(f"{url}: the trial list holds paths that are not UTF-8 text") from None
    label = np.frombuffer(bytes(labels), dtype=np.int8)
    targets = int(np.count_nonzero(label))
    if targets in (0, len(label)):
        lacking = "target trials (label 1)" if targets == 0 else "non-target trials (label 0)"
        raise UserError(f"{url}: none of the {len(label)} trials are {lacking}; error rates need both kinds")
    return Trials(
        label=label,
        left=np.array(left, dtype=np.int64),
        right=np.array(right, dtype=np.int64),
        names=names,
        name=name,
        digest=hashlib.sha256(data).hexdigest(),
    )
