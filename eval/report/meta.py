"""VoxCeleb's meta file: gender and nationality of each speaker."""

from __future__ import annotations

from eval.report.evaluation import Person
from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.text import has_control

_ID, _GENDER, _NATIONALITY = "voxceleb1 id", "gender", "nationality"
_EXPECTED = "VoxCeleb1's vox1_meta.csv has tab-separated columns VoxCeleb1 ID, …, Gender, Nationality, Set"


def read_meta(url: str) -> dict[str, Person]:
    """Speakers by their id, of a file of tab-separated lines that begins with the columns' names.

    Columns are found by name ("VoxCeleb1 ID" or "VoxCeleb2 ID", "Gender", and "Nationality" where there is
    one). Raises StorageError, and UserError for another file, or two lines of one speaker that differ.
    """
    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{url}: not UTF-8 text (byte {error.start}); {_EXPECTED}") from None
    lines = text.splitlines()
    names = [name.strip().lower() for name in lines[0].split("\t")] if lines else []
    identity = next((name for name in (_ID, "voxceleb2 id") if name in names), None)
    if identity is None or _GENDER not in names:
        raise UserError(f"{url}: line 1 names no columns of speakers and their gender; {_EXPECTED}")
    people: dict[str, Person] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != len(names):
            raise UserError(f"{url}, line {number}: {len(fields)} fields, and line 1 has {len(names)}")
        found = dict(zip(names, fields, strict=True))
        if any(has_control(value) for value in fields):
            raise UserError(f"{url}, line {number}: holds control characters")
        person = Person(found[_GENDER] or "unknown", found.get(_NATIONALITY) or "unknown")
        if people.setdefault(found[identity], person) != person:
            raise UserError(f"{url}, line {number}: {found[identity]} stands there twice, with other words")
    return people
