"""One file from the first mirror that has it: resumed after an interruption, checked, begun anew once."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shard_tools.dataprep.archive_lists import Listed
from shard_tools.dataprep.credentials import Credentials
from shard_tools.dataprep.http import (
    Body,
    OutOfRangeError,
    PassingError,
    RefusedError,
    Transport,
    address,
    with_key,
)
from shard_tools.dataprep.partial import Partial
from shard_tools.errors import UserError


@dataclass(frozen=True)
class Patience:
    """tries: failures in a row, none of which brought a new byte; waits double up to the longest."""

    tries: int = 10
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0

    def wait_s(self, failures: int) -> float:
        """After so many failures in a row; jittered to between half and the whole."""
        wait = min(self.first_wait_s * 2.0 ** (failures - 1), self.longest_wait_s)
        return wait * random.uniform(0.5, 1.0)


@dataclass(frozen=True)
class Source:
    """Where a file is. known: the credentials are for this server."""

    url: str  # may hold a key: never to be shown
    mirror: str
    known: bool

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]


class FetchError(UserError):
    """A file that no mirror gave, or that is another one than the list's."""


class StoppedError(Exception):
    """The user, or a failure elsewhere, has ended the whole."""


def sources_of(item: Listed, mirrors: Sequence[str], credentials: Credentials) -> list[Source]:
    """Where to ask for it, in order: its own URLs, then, unless it is open to all, the mirrors."""
    if item.open_to_all:
        return [Source(url, url, known=False) for url in item.urls]
    own = [Source(with_key(url, credentials), url, known=True) for url in item.urls]
    return [*own, *(Source(address(each, item.name, credentials), each, known=True) for each in mirrors)]


class Fetcher:
    """Fetches files, in threads if wanted.

    report: told the bytes that come, those taken back as negative ones; had: those of an earlier run.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        patience: Patience,
        report: Callable[[int], object],
        had: Callable[[int], object],
        note: Callable[[str], object],
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._report = report
        self._had = had
        self._note = note
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._open: set[Body] = set()
        self._useless: dict[str, str] = {}  # mirror → why it gives nothing to us

    def check_stopped(self) -> None:
        """StoppedError once `stop` was called."""
        if self._stop.is_set():
            raise StoppedError

    def stop(self) -> None:
        """End all that is under way, from any thread."""
        self._stop.set()
        with self._lock:
            for body in self._open:
                body.shut()

    def fetch(
        self, item: Listed, sources: Sequence[Source], path: Path, *, told: Callable[[int], object]
    ) -> int:
        """Bring `item` to `path`; returns its size. told: the size that the server says.

        Raises FetchError, UserError (the disk), StoppedError; what has come stays for the next run.
        """
        with Partial(path) as part:
            part.load(self._loaded)
            anew = False
            while not (part.size and part.md5 == item.md5):
                self._fill(part, item, sources, told)
                if part.md5 == item.md5:
                    break
                found, size = part.md5, part.size
                self._clear(part)
                if anew:
                    part.discard()
                    raise FetchError(
                        f"{item.name}: its {size:,} bytes have MD5 {found}, {item.place} says {item.md5},"
                        " twice: damaged at the mirror, or of another release than the list"
                    )
                anew = True
                # Another mirror first, if there is one: this one may hold the damaged file.
                sources = [*sources[1:], *sources[:1]]
                self._note(f"{item.name}: MD5 {found} instead of {item.md5}; fetched anew")
            size = part.size
            part.publish()
            return size

    def _loaded(self, amount: int) -> None:
        self.check_stopped()
        self._had(amount)

    def _clear(self, part: Partial) -> None:
        self._report(-part.size)
        part.clear()

    def _fill(
        self, part: Partial, item: Listed, sources: Sequence[Source], told: Callable[[int], object]
    ) -> None:
        """The whole file from the first source that gives it."""
        refusals: list[tuple[str, RefusedError]] = []
        for source in sources:
            why = self._useless.get(source.mirror)
            try:
                if why is not None:
                    raise RefusedError(why, for_all=True)
                self._from(source, part, item, told)
                return
            except RefusedError as error:
                refusals.append((source.host, error))
                if error.for_all and source.mirror not in self._useless:
                    self._useless[source.mirror] = str(error)
                    self._note(f"{source.host}: {error}")  # the next may take its time to fail
        if not sources:
            raise FetchError(f"{item.name}: {item.place} names no URL; say where it is with --mirror")
        if all(error.missing for _, error in refusals):
            asked = ", ".join(dict.fromkeys(host for host, _ in refusals))
            raise FetchError(
                f"{item.name}: no mirror has it (asked {asked}); check {item.place}, or name one with"
                " --mirror"
            )
        reasons = "; ".join(dict.fromkeys(f"{host}: {error}" for host, error in refusals))
        if all(error.for_all for _, error in refusals) and not item.open_to_all:
            raise UserError(reasons)  # the same for every other file: this ends the whole
        raise FetchError(f"{item.name}: {reasons}")

    def _from(self, source: Source, part: Partial, item: Listed, told: Callable[[int], object]) -> None:
        """What is missing of `part`, from one source, however often the connection drops."""
        failures, farthest = 0, part.size
        while True:
            try:
                self._receive(source, part, told)
                return
            except PassingError as error:
                failures = 1 if part.size > farthest else failures + 1
                farthest = max(farthest, part.size)
                if failures >= self._patience.tries:
                    raise RefusedError(f"gave up after {failures} tries ({error})") from None
                wait = error.wait_s if error.wait_s is not None else self._patience.wait_s(failures)
                if failures > 2:
                    self._note(
                        f"{item.name}: {source.host}: {error}; try {failures + 1} of {self._patience.tries}"
                        f" in {wait:.0f} s"
                    )
                if self._stop.wait(wait):
                    raise StoppedError from None

    def _receive(self, source: Source, part: Partial, told: Callable[[int], object]) -> None:
        self.check_stopped()
        try:
            body = self._transport.open(source.url, part.size, known=source.known)
        except OutOfRangeError as error:
            if error.size == part.size:
                return  # all of it is here already
            self._clear(part)
            raise PassingError("it has fewer bytes than were here") from None
        with self._lock:
            self._open.add(body)
        try:
            if body.start != part.size:  # a server without ranges
                self._clear(part)
            if body.start != part.size:
                raise RefusedError(f"answers with bytes from {body.start:,} on, which nobody asked for")
            if body.size is not None:
                told(body.size)
            for chunk in body.chunks():
                self.check_stopped()
                part.write(chunk)
                self._report(len(chunk))
            if body.size is not None and part.size < body.size:
                raise PassingError("the connection ended early")
        except PassingError:
            if self._stop.is_set():
                raise StoppedError from None
            raise
        finally:
            with self._lock:
                self._open.discard(body)
            body.close()
