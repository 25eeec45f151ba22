"""Many files at once: what is missing, whether there is room for it, fetching it, what became of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from shard_tools.dataprep.archive_lists import Listed, Lists, chosen, misfits, names_in
from shard_tools.dataprep.credentials import Credentials
from shard_tools.dataprep.done import Done
from shard_tools.dataprep.fetch import Fetcher, FetchError, Patience, Source, sources_of
from shard_tools.dataprep.files import draft_of, gigabytes, make_folder, require_space
from shard_tools.dataprep.finished import Finished
from shard_tools.dataprep.http import PassingError, Transport
from shard_tools.dataprep.progress import Progress
from shard_tools.errors import UserError
from shard_tools.pack.listing import ProblemsError

# https://www.robots.ox.ac.uk/~vgg/data/voxceleb/ and its mirror at KAIST ask for a user and a password,
# today's VoxCeleb trainer for a key.
MIRRORS = (
    "https://thor.robots.ox.ac.uk/~vgg/data/voxceleb/vox1a",
    "http://cnode01.mm.kaist.ac.kr/voxceleb/vox1a",
)
KEY_MIRRORS = ("https://cn01.mmai.io/download/voxceleb?file={name}",)

Result = TypeVar("Result")


@dataclass
class DownloadSummary:
    """fetched, there: names of files; bytes: of those completed now."""

    fetched: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    bytes: int = 0


def download(
    save_path: Path,
    lists: Lists,
    *,
    credentials: Credentials,
    mirrors: Sequence[str] = (),
    only: Sequence[str] = (),
    workers: int = 4,
    patience: Patience | None = None,
    insecure: bool = False,
    quiet: bool = False,
) -> DownloadSummary:
    """Bring the files of `lists` whose names match `only` (all without it) to `save_path`.

    mirrors: instead of the usual ones; workers: files at once; quiet: no progress on stderr. Raises
    UserError where nothing can be fetched (the disk, the credentials), ProblemsError where some files
    failed and all others are complete.
    """
    mirrors = list(mirrors) or list(KEY_MIRRORS if credentials.key is not None else MIRRORS)
    _check_mirrors(mirrors)
    items = _selected(lists, only)
    make_folder(save_path)
    with (
        Progress("downloading", quiet=quiet, scrub=credentials.scrub) as progress,
        ThreadPoolExecutor(workers) as pool,
    ):
        transport = Transport(credentials, insecure=insecure)
        run = _Run(save_path, lists, credentials, transport, patience or Patience(), progress, pool)
        if insecure:
            progress.note("warning: --insecure: certificates are not verified; anyone on the way may listen")
        try:
            missing = run.look(items)
            run.ask_sizes({item: sources_of(item, mirrors, credentials) for item in missing})
            _warn_of_plain(run.sources, credentials, progress.note)
            run.fetch()
        except BaseException:
            run.stop()
            raise
    return run.summary


class _Run:
    """The phases of a download, each over many files at once."""

    def __init__(
        self,
        save_path: Path,
        lists: Lists,
        credentials: Credentials,
        transport: Transport,
        patience: Patience,
        progress: Progress,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._save_path = save_path
        self._scrub = credentials.scrub
        self._transport = transport
        self._progress = progress
        self._pool = pool
        self._finished = Finished(save_path)
        self._fetcher = Fetcher(
            transport, patience=patience, report=progress.move, had=progress.have, note=progress.note
        )
        self._done = Done(save_path, lists, self._finished, lambda amount: self._fetcher.check_stopped())
        self.sources: dict[Listed, list[Source]] = {}
        self._sizes: dict[Listed, int] = {}  # 0: not known yet
        self.summary = DownloadSummary()
        for line in misfits(lists, [*self._finished.names(), *names_in(lists.folder / "finished.txt")]):
            progress.note(f"note: {line}")

    def stop(self) -> None:
        self._fetcher.stop()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def look(self, items: Sequence[Listed]) -> list[Listed]:
        """Those that must be fetched."""
        reasons, _ = self._each(self._done.why_download, items)
        for item in items:
            if reasons[item] is not None:
                self.summary.there.append(item.name)
                self._progress.note(f"{item.name}: {reasons[item]}")
        for name in self._done.wrong():
            self._progress.note(f"{name}: is there, but its MD5 is another than the list's; fetched anew")
        return [item for item in items if reasons[item] is None]

    def ask_sizes(self, sources: dict[Listed, list[Source]]) -> None:
        """How much is to come, as far as servers say. UserError where the disk has not room for it."""
        self.sources = sources
        mute: set[str] = set()  # servers out of reach: once is enough to wait for that

        def size_of(item: Listed) -> int:
            for each in sources[item]:
                if each.host in mute:
                    continue
                try:
                    size = self._transport.size(each.url, known=each.known)
                except PassingError:
                    mute.add(each.host)
                    continue
                if size is not None:
                    return size
            return 0

        self._sizes, _ = self._each(size_of, list(sources))
        here = {item: _size(draft_of(self._save_path / item.name)) for item in sources}
        needed = sum(max(size - here[item], 0) for item, size in self._sizes.items())
        require_space(self._save_path, needed, "what is still to come")
        self._progress.expect(sum(self._sizes.values()))

    def fetch(self) -> None:
        """All of them. ProblemsError where some failed."""
        _, failures = self._each(self._fetch, list(self.sources), self._fetched)
        if failures:
            failures = sorted(map(self._scrub, failures))
            raise ProblemsError(failures, "all others are complete; the same command again goes on")

    def _fetch(self, item: Listed) -> int:
        def told(size: int) -> None:
            self._progress.expect(size - self._sizes[item])
            self._sizes[item] = size

        size = self._fetcher.fetch(item, self.sources[item], self._save_path / item.name, told=told)
        self._finished.add_file(item.name, item.md5)
        return size

    def _fetched(self, item: Listed, size: int) -> None:
        self.summary.fetched.append(item.name)
        self.summary.bytes += size
        self._progress.note(f"{item.name}: {gigabytes(size)}, MD5 right; all: {self._progress.state()}")

    def _each(
        self,
        function: Callable[[Listed], Result],
        items: Sequence[Listed],
        then: Callable[[Listed, Result], object] = lambda item, result: None,
    ) -> tuple[dict[Listed, Result], list[str]]:
        """(function(item) of each, what failed). What ends the whole, not one file alone, is raised."""
        results: dict[Listed, Result] = {}
        failures: list[str] = []
        pending: dict[Future[Result], Listed] = {self._pool.submit(function, item): item for item in items}
        while pending:
            # Now and then, so that Ctrl-C is heard.
            ended, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in ended:
                item = pending.pop(future)
                try:
                    results[item] = future.result()
                except FetchError as error:
                    failures.append(str(error))
                else:
                    then(item, results[item])
        return results, failures


def _selected(lists: Lists, only: Sequence[str]) -> list[Listed]:
    """By their own names, or by the archive's that they are parts of."""
    names = [item.name for item in lists.downloads]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f"{lists.folder}: {', '.join(twice)} stands in two lists; leave it in one")
    archive_of = {part.name: each.name for each in lists.files for part in lists.parts_of(each)}
    picked = chosen([*names, *dict.fromkeys(archive_of.values())], only, what="listed file")
    return [item for item in lists.downloads if not {item.name, archive_of.get(item.name)}.isdisjoint(picked)]


def _check_mirrors(mirrors: Sequence[str]) -> None:
    for mirror in mirrors:
        parts = urlsplit(mirror)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(f"--mirror {mirror}: is no http:// or https:// URL")
        if "@" in parts.netloc:
            raise UserError(f"--mirror {mirror}: give user and password by their options, not in the URL")


def _warn_of_plain(
    sources: dict[Listed, list[Source]], credentials: Credentials, note: Callable[[str], object]
) -> None:
    if not credentials.options:
        return
    known = {urlsplit(each.url) for several in sources.values() for each in several if each.known}
    plain = {parts.hostname or "" for parts in known if parts.scheme == "http"}
    for host in sorted(plain - {"localhost", "127.0.0.1", "::1"}):
        note(f"warning: {host} is asked without TLS: {credentials.options} can be read on the way")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
