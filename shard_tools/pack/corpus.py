"""Where the audio lies to pack: below a folder, or in a ZIP archive or tars, which are read in place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from shard_tools import storage
from shard_tools.audio.convert import EXTENSIONS
from shard_tools.audio.regular_file import open_regular
from shard_tools.errors import UserError
from shard_tools.pack import tarred, zipped
from shard_tools.pack.walk import audio_files


@dataclass(frozen=True)
class Source:
    """A file of audio, open. size: in bytes; mtime_ns: of it, or of the archive that holds it."""

    file: BinaryIO
    size: int
    mtime_ns: int


class Corpus(Protocol):
    """Files by their paths, relative to a root, with "/"."""

    @property
    def root(self) -> str:
        """For messages: what paths are below."""
        ...

    def paths(self, extensions: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """(all paths with these endings, sorted; problems, one line each)."""
        ...

    def speaker(self, path: str) -> str | None:
        """Whose the file is, where more than its path tells it; None elsewhere. UserError where none can."""
        ...

    def open(self, path: str) -> contextlib.AbstractContextManager[Source]:
        """The file at `path`. AudioError when there is none, or it is none of audio; OSError."""
        ...

    def part(self, paths: Sequence[str]) -> Corpus:
        """What is needed to open these: small enough to be sent to another process."""
        ...


@dataclass(frozen=True)
class FolderCorpus:
    """Files below the folder `root`."""

    root: str

    def paths(self, extensions: tuple[str, ...]) -> tuple[list[str], list[str]]:
        return audio_files(self.root, extensions)

    def speaker(self, path: str) -> None:
        return None

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[Source]:
        name = os.path.join(self.root, path)
        with open_regular(name, name, buffering=0) as file:  # who reads it asks for all at once
            status = os.fstat(file.fileno())
            yield Source(file, status.st_size, status.st_mtime_ns)

    def part(self, paths: Sequence[str]) -> FolderCorpus:
        return self


@dataclass(frozen=True)
class ZipCorpus:
    """Members of a ZIP archive below a folder in it; members: by their paths below that."""

    archive: str
    folder: str
    members: dict[str, zipped.Member]

    @property
    def root(self) -> str:
        return os.path.join(self.archive, self.folder) if self.folder else self.archive

    def paths(self, extensions: tuple[str, ...]) -> tuple[list[str], list[str]]:
        return sorted(path for path in self.members if path.lower().endswith(extensions)), []

    def speaker(self, path: str) -> None:
        return None

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[Source]:
        name = os.path.join(self.root, path)
        with open(self.archive, "rb") as archive:
            mtime_ns = os.fstat(archive.fileno()).st_mtime_ns
            member = self.members.get(path)
            with zipped.open_member(archive, member, name) as file:
                yield Source(file, member.size if member else 0, mtime_ns)

    def part(self, paths: Sequence[str]) -> ZipCorpus:
        members = {path: self.members[path] for path in paths if path in self.members}
        return ZipCorpus(self.archive, self.folder, members)


@dataclass(frozen=True)
class TarCorpus:
    """Audio in tars that others made, shards of theirs: `root`, or all directly below it."""

    root: str
    found: tarred.Found

    def paths(self, extensions: tuple[str, ...]) -> tuple[list[str], list[str]]:
        fit = sorted(path for path in self.found.members if path.lower().endswith(extensions))
        return fit, self.found.problems

    def speaker(self, path: str) -> str:
        return tarred.speaker(*self.found.whose[path])

    @contextlib.contextmanager
    def open(self, path: str) -> Iterator[Source]:
        member = self.found.member(path)
        with tarred.open_member(member, os.path.join(self.root, path)) as file:
            assert member is not None
            yield Source(file, member.size, os.stat(member.tar).st_mtime_ns)

    def part(self, paths: Sequence[str]) -> TarCorpus:
        members = {path: member for path in paths if (member := self.found.member(path)) is not None}
        return TarCorpus(self.root, tarred.Found(members))


def find_corpus(root: str) -> Corpus:
    """The corpus at `root`: a folder, a ZIP archive, archive.zip/a/folder/in/it, a tar, or a folder of tars.

    Of a whole archive, folders that all of its audio lies in and that name no speaker ("dev", "aac" …) count
    as part of the root, so that vox2_dev_aac.zip is what its dev/aac is. Raises UserError when it is none of
    these.
    """
    kind = storage.kind(root)
    if kind is not None and (tars := tarred.tars_at(root)):
        return TarCorpus(root, tarred.members(tars))
    if kind == "folder":
        return FolderCorpus(root)
    archive, folder = _archive(root)
    if archive is None:
        state = "does not exist" if kind is None else "is not a folder, nor a ZIP archive or a tar"
        raise UserError(
            f"{root}: {state}; ROOT is the folder below which the audio lies, or an archive of it"
        )
    members = zipped.members(archive)
    folder = folder or zipped.outer_folder(path for path in members if path.lower().endswith(EXTENSIONS))
    if folder:
        below = folder + "/"
        members = {path[len(below) :]: member for path, member in members.items() if path.startswith(below)}
        if not members:
            raise UserError(f"{archive}: no folder {folder} in this archive")
    return ZipCorpus(archive, folder, members)


def _archive(root: str) -> tuple[str | None, str]:
    """(the ZIP archive on the way to `root`, or None; the folder in it)."""
    path, inner = root.rstrip("/"), ""
    while path and not os.path.lexists(path):
        path, name = os.path.split(path)
        inner = f"{name}/{inner}" if inner else name
        if not name:
            break
    return (path, inner) if os.path.isfile(path) and zipped.is_zip(path) else (None, "")
