"""A list of utterances' keys, one a line, as an audit writes it: read, and held against a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.text import counted, shown

_FEW = 10  # keys in a message


@dataclass(frozen=True)
class KeyList:
    """A list as it was read: where it lies, and its keys, each once."""

    url: str
    keys: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of its keys, whatever their order."""
        return hashlib.sha256("\n".join(sorted(self.keys)).encode()).hexdigest()


def read_keys(url: str) -> tuple[str, ...]:
    """The keys of `url`, each once, in the list's order; an empty file has none.

    Raises StorageError where it cannot be read, and UserError for what is no UTF-8 text.
    """
    try:
        text = storage.read_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{url}: not UTF-8 text (byte {error.start}); expected a key a line") from None
    lines = (line.rstrip("\r") for line in text.split("\n"))
    return tuple(dict.fromkeys(line for line in lines if line.strip()))


def check_all_found(url: str, keys: Collection[str], found: Collection[str], where: str) -> None:
    """Raise UserError, with their number and the first ten, for keys of the list `url` that are not `found`.

    where: what they were sought in.
    """
    missing = [key for key in keys if key not in found]
    if missing:
        of = "" if len(missing) == len(keys) else f" of its {counted(len(keys), 'key', ',')}"
        raise UserError(
            f"{url}: {counted(len(missing), 'key', ',') if not of else f'{len(missing):,}{of}'} "
            f"{'is' if len(missing) == 1 else 'are'} not in {where}: {some(missing)}; a line is a key, as "
            "id10001/1zcIwhmdeo4/00001, without the extension"
        )


def some(keys: Iterable[str]) -> str:
    """The first ten of `keys`, for a message."""
    keys = list(keys)
    return ", ".join(shown(key[:200]) for key in keys[:_FEW]) + ", …" * (len(keys) > _FEW)
