"""Where the utterances of a trial list come from: a set of shards, or a folder of audio files."""

from __future__ import annotations

import os
import threading
import unicodedata
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np

from shard_tools import audio, storage
from shard_tools.arrays import Int16Array, Int64Array
from shard_tools.audio.regular_file import is_regular
from shard_tools.dataset import manifest
from shard_tools.dataset.by_size import open_by_size
from shard_tools.dataset.catalogue import Catalogue
from shard_tools.dataset.chosen import Chosen, all_keys, choose
from shard_tools.dataset.keys import key_of
from shard_tools.dataset.shardwise import ShardwiseCatalogue, begin_manifest
from shard_tools.errors import UserError
from shard_tools.read.reader import Reader
from shard_tools.threads import Threads
from shard_tools.workers import share_of_processors

_LOOKUPS = 32  # concurrent questions whether a file exists, which a remote store answers one by one
_SHOWN = 10  # of those that are missing
_HELD_WHOLE = 500_000  # utterances of a set that is opened whole: 45 MiB, and 0.7 s

Result = TypeVar("Result")
_Place = tuple[Catalogue | Chosen, int]  # a row of a table


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
    """Utterances in shards; `spk/vid/0001.wav` is the sample with key `spk/vid/0001`, whatever its codec.

    Of a large set those are held that were asked for, which costs a look through all of its indexes for all
    that are asked for together.
    """

    def __init__(self, url: str, catalogue: Catalogue | ShardwiseCatalogue) -> None:
        self.url = url
        self._catalogue = catalogue
        self._looked_up: dict[str, _Place | None] = {}  # of a large set, by key
        self._looking = threading.Lock()
        self._own = threading.local()  # a reader keeps files open, and is not made for several threads

    def load(self, name: str) -> Int16Array:
        table, row = self._place(name)
        readers = self._own.__dict__.setdefault("readers", {})
        if table not in readers:
            readers[table] = Reader(table)
        samples: Int16Array = readers[table].utterance(row)
        return samples

    def speakers(self, names: Sequence[str]) -> tuple[str, ...]:
        """The speaker of each of `names`, by the shards' labels; UserError for one that is not there."""
        return tuple(table.speakers[int(table.label[row])] for table, row in self._places(names))

    def frames(self, names: Sequence[str]) -> Int64Array:
        """Samples of each of `names`, int64."""
        return np.array([table.frames[row] for table, row in self._places(names)], np.int64)

    def stamps(self, names: Sequence[str]) -> list[str]:
        return [
            f"{table.shard_sha256[int(table.shard[row])]} {int(table.offset[row])}"
            for table, row in self._places(names)
        ]

    def names(self) -> list[str]:
        """The keys of all utterances, in the shards' order."""
        shards = self._catalogue
        if isinstance(shards, ShardwiseCatalogue):
            return list(all_keys(shards))
        return [shards.key(row) for row in range(len(shards))]

    def missing(self, names: Sequence[str]) -> list[str]:
        self._look_up(names)
        return [name for name in names if self._find(name) is None]

    def _places(self, names: Sequence[str]) -> list[_Place]:
        self._look_up(names)
        return [self._place(name) for name in names]

    def _place(self, name: str) -> _Place:
        place = self._find(name)
        if place is None:
            raise UserError(f"{self.url}: no utterance with the key {key_of(name)!r}")
        return place

    def _find(self, name: str) -> _Place | None:
        shards, key = self._catalogue, key_of(name)
        if isinstance(shards, ShardwiseCatalogue):
            self._look_up([name])
            return self._looked_up[key]
        row = shards.find(key)
        return None if row is None else (shards, row)

    def _look_up(self, names: Sequence[str]) -> None:
        """Find those in a large set that were not looked for yet, together."""
        shards = self._catalogue
        if not isinstance(shards, ShardwiseCatalogue):
            return
        with self._looking:
            new = {key for key in map(key_of, names) if key not in self._looked_up}
            if new:
                chosen = choose(shards, new, share_of_processors())
                self._looked_up.update(dict.fromkeys(new))
                self._looked_up.update((key, (chosen, row)) for key, row in chosen.rows.items())


class FolderUtterances:
    """WAV or FLAC files below a folder, found by exactly the path in the trial list."""

    def __init__(self, url: str) -> None:
        self.url = url

    def load(self, name: str) -> Int16Array:
        url = self.place(name)
        path = storage.local_path(url)
        if path is not None:
            is_regular(path, url)  # a named pipe would be read for ever
        return self.decode(storage.read_bytes(url), url)

    def place(self, name: str) -> str:
        """Where the file of an utterance lies."""
        return storage.join(self.url, name)

    def decode(self, data: bytes, url: str) -> Int16Array:
        try:
            return audio.decode(data, url)
        except audio.FormatError as error:
            raise UserError(
                f"{error}; make-shards pack --convert makes shards of such audio, to be given as --data"
            ) from error

    def missing(self, names: Sequence[str]) -> list[str]:
        there = _each(self._is_there, [self.place(name) for name in names])
        return [name for name, found in zip(names, there, strict=True) if not found]

    def stamps(self, names: Sequence[str]) -> list[str]:
        return _each(_stamp, [self.place(name) for name in names])

    def _is_there(self, url: str) -> bool:
        path = storage.local_path(url)
        return storage.exists(url) if path is None else is_regular(path, path)


class SeveralUtterances:
    """Utterances of several places: of those that have a name, the first counts."""

    def __init__(self, sources: Sequence[Utterances]) -> None:
        self.url = ", ".join(source.url for source in sources)
        self._sources = sources
        self._of: dict[str, Utterances] = {}  # where what was looked for is

    def load(self, name: str) -> Int16Array:
        return self.source(name).load(name)

    def source(self, name: str) -> Utterances:
        """The one that has it; UserError where none does."""
        if name not in self._of and self.missing([name]):
            raise UserError(f"{self.url}: no utterance {name!r}")
        return self._of[name]

    def missing(self, names: Sequence[str]) -> list[str]:
        left = list(names)
        for source in self._sources:
            absent = set(source.missing(left))
            self._of.update((name, source) for name in left if name not in absent)
            left = [name for name in left if name in absent]
        return left

    def stamps(self, names: Sequence[str]) -> list[str]:
        stamps = dict.fromkeys(names, "")
        for source in self._sources:
            own = [name for name in names if self.source(name) is source]
            stamps.update(zip(own, stamps_of(source, own), strict=True))
        return [stamps[name] for name in names]


def open_all(urls: Sequence[str]) -> Utterances:
    """What lies at all of `urls`, as open_utterances takes them."""
    return (
        open_utterances(urls[0]) if len(urls) == 1 else SeveralUtterances([open_utterances(u) for u in urls])
    )


def open_utterances(url: str) -> Utterances:
    """Shards where the folder `url` holds a manifest.json; otherwise a folder of audio files.

    Raises UserError for a local folder that does not exist and for a broken manifest.
    """
    try:
        begun = begin_manifest(url)
    except storage.MissingError:
        pass
    else:
        return ShardUtterances(url, open_by_size(url, whole=_HELD_WHOLE, held=1, begun=begun))
    folder = storage.local_path(url)
    if folder is not None and storage.kind(folder) != "folder":
        raise UserError(f"{url}: no such folder; expected shards ({manifest.NAME}) or WAV or FLAC files")
    return FolderUtterances(url)


def frames_of(source: Utterances, names: Sequence[str]) -> Int64Array | None:
    """Samples of each utterance, int64, where that is known before it is read."""
    known = getattr(source, "frames", None)
    return None if known is None else known(names)


def stamps_of(source: Utterances, names: Sequence[str]) -> list[str]:
    """For each utterance, text that is another when its audio has been changed, as far as can be seen."""
    known = getattr(source, "stamps", None)
    return [""] * len(names) if known is None else known(names)


def _stamp(url: str) -> str:
    path = storage.local_path(url)
    if path is None:
        return f"{storage.size(url)} {storage.modified(url)}"
    try:
        status = os.stat(path)
    except OSError as error:
        raise UserError(f"{url}: {error.strerror}") from None
    # The time of the last change too: a copy or a rename may bring another file's size and time along.
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _each(ask: Callable[[str], Result], urls: Sequence[str]) -> list[Result]:
    """`ask` of each, at once where a remote store answers."""
    if not urls or storage.local_path(urls[0]) is not None:
        return [ask(url) for url in urls]
    with Threads(_LOOKUPS, "lookups") as pool:
        return list(pool.map(ask, urls))


def require_all(source: Utterances, names: Sequence[str], trial_list: str) -> None:
    """Raise UserError, with the count and the first few, when `source` lacks some of `names`."""
    missing = source.missing(names)
    if missing:
        few = ", ".join(map(_short, missing[:_SHOWN])) + (", …" if len(missing) > _SHOWN else "")
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
    plain = "the list's paths start from the data folder (or the folder that was packed)"
    return str(getattr(source, "remedy", plain))
