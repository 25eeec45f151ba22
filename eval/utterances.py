"""Where the utterances of a trial list come from: a set of shards, or a folder of audio files."""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from shard_tools import audio, storage
from shard_tools.arrays import Int16Array
from shard_tools.audio.regular_file import is_regular
from shard_tools.dataset import manifest
from shard_tools.dataset.catalogue import Catalogue, open_catalogue
from shard_tools.dataset.keys import key_of
from shard_tools.errors import UserError
from shard_tools.read.reader import Reader

_LOOKUPS = 32  # concurrent questions whether a file exists, which a remote store answers one by one


class Utterances(Protocol):
    """Utterances by the path that a trial list gives them; `load` may be called from several threads."""

    url: str

    def load(self, name: str) -> Int16Array:
        """The whole utterance, int16 (frames,) at 16 kHz."""
        ...

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that are not there, in their order; UserError for what is no file."""
        ...


class ShardUtterances:
    """Utterances in shards; `spk/vid/0001.wav` is the sample with key `spk/vid/0001`, whatever its codec."""

    def __init__(self, url: str, catalogue: Catalogue) -> None:
        self.url = url
        self._catalogue = catalogue
        self._own = threading.local()  # a reader keeps files open, and is not made for several threads

    def load(self, name: str) -> Int16Array:
        if not hasattr(self._own, "reader"):
            self._own.reader = Reader(self._catalogue)
        samples: Int16Array = self._own.reader.utterance(self._row(name))
        return samples

    def speakers(self, names: Sequence[str]) -> tuple[str, ...]:
        """The speaker of each of `names`, by the shards' labels; UserError for one that is not there."""
        rows = [self._row(name) for name in names]
        labels = [int(self._catalogue.label[row]) for row in rows]
        return tuple(self._catalogue.speakers[label] for label in labels)

    def _row(self, name: str) -> int:
        utterance = self._catalogue.find(key_of(name))
        if utterance is None:
            raise UserError(f"{self.url}: no utterance with the key {key_of(name)!r}")
        return utterance

    def missing(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self._catalogue.find(key_of(name)) is None]


class FolderUtterances:
    """WAV or FLAC files below a folder, found by exactly the path in the trial list."""

    def __init__(self, url: str) -> None:
        self.url = url

    def load(self, name: str) -> Int16Array:
        url = storage.join(self.url, name)
        path = storage.local_path(url)
        if path is not None:
            is_regular(path, url)  # a named pipe would be read for ever
        try:
            return audio.decode(storage.read_bytes(url), url)
        except audio.FormatError as error:
            raise UserError(
                f"{error}; make-shards pack --convert makes shards of such audio, to be given as --data"
            ) from error

    def missing(self, names: Sequence[str]) -> list[str]:
        folder = storage.local_path(self.url)
        if folder is not None:
            paths = [os.path.join(folder, name) for name in names]
            return [name for name, path in zip(names, paths, strict=True) if not is_regular(path, path)]
        with ThreadPoolExecutor(_LOOKUPS) as pool:
            there = pool.map(storage.exists, [storage.join(self.url, name) for name in names])
            return [name for name, found in zip(names, there, strict=True) if not found]


def open_utterances(url: str) -> Utterances:
    """Shards where the folder `url` holds a manifest.json; otherwise a folder of audio files.

    Raises UserError for a local folder that does not exist and for a broken manifest.
    """
    if storage.exists(storage.join(url, manifest.NAME)):
        return ShardUtterances(url, open_catalogue(url))
    folder = storage.local_path(url)
    if folder is not None and storage.kind(folder) != "folder":
        raise UserError(f"{url}: no such folder; expected shards ({manifest.NAME}) or WAV or FLAC files")
    return FolderUtterances(url)


def require_all(source: Utterances, names: Sequence[str], trial_list: str) -> None:
    """Raise UserError, with the count and the first few, when `source` lacks some of `names`."""
    missing = source.missing(names)
    if missing:
        few = ", ".join(map(_short, missing[:3])) + (", …" if len(missing) > 3 else "")
        raise UserError(
            f"{source.url}: {len(missing)} of the {len(names)} utterances in {trial_list} are not there: "
            f"{few}; {_remedy(source, missing[0])}"
        )


def _short(name: str) -> str:
    return name if len(name) <= 200 else f"{name[:200]}…"


def _remedy(source: Utterances, missing: str) -> str:
    """What to do about a name that is not there; one character may be written in two ways in Unicode."""
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, missing)
        if written != missing and not source.missing([written]):
            return (
                f"a name that differs from {_short(missing)!r} in its Unicode form only is there: write the "
                f"list's names in the form {form}, as the data have them"
            )
    return "the list's paths start from the data folder (or the folder that was packed)"
