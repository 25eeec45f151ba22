"""Audio in tars that others made, read where it lies: to be packed anew, converted perhaps."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import BinaryIO, cast

from shard_tools.audio import AudioError
from shard_tools.audio.convert import EXTENSIONS
from shard_tools.audio.info import LARGEST_FILE
from shard_tools.dataset.speakers import TELL, USUAL, speaker_of
from shard_tools.dataset.tar_samples import Sample, TarSamples, read_member, read_samples
from shard_tools.errors import UserError
from shard_tools.pack.member_file import MemberFile
from shard_tools.storage.errors import explain

_TAR = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tar.lz4")


@dataclass(frozen=True, slots=True)
class Member:
    """Where a member's data lie: `size` bytes of the tar from `offset` on."""

    tar: str
    offset: int
    size: int


@dataclass(frozen=True)
class Found:
    """members: by their paths; problems: one line each; whose: what tells the speaker of a path; named: paths
    by the members' own names, where these are others, as A.WAV of A.wav or a.wav.wav of a.wav.
    """

    members: dict[str, Member] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    whose: dict[str, tuple[str, Sample, TarSamples]] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)

    def member(self, path: str) -> Member | None:
        """The one at `path`, or of that very name."""
        return self.members.get(path) or self.members.get(self.named.get(path, ""))


def tars_at(root: str) -> list[str]:
    """The paths of the tars that `root` stands for: itself, or those of a folder that holds no other audio.

    [] when it is neither. UserError for compressed ones among them, which would be left out, and for a pipe
    of such a name, which would be waited for.
    """
    if not os.path.isdir(root):
        return [root] if os.path.isfile(root) and root.lower().endswith(_TAR) else []
    try:
        with os.scandir(root) as entries:
            listed = [entry for entry in entries if not entry.name.startswith(".")]
            other = any(entry.is_dir() or entry.name.lower().endswith(EXTENSIONS) for entry in listed)
    except OSError as error:
        raise UserError(explain(error, root)) from error
    tars = sorted(entry.path for entry in listed if entry.name.lower().endswith(_TAR))
    if other or not tars:
        return []
    for entry in listed:
        if entry.name.lower().endswith(COMPRESSED):
            raise UserError(f"{entry.path}: a compressed tar cannot be read in part; unpack it")
    for tar in tars:
        if not os.path.isfile(tar):
            raise UserError(f"{tar}: is no file that can be read in part; take it out of ROOT")
    return tars


def members(tars: list[str]) -> Found:
    """The audio of these tars, whatever its kind; its path is its name in the tar, put in order.

    Raises UserError for a tar that cannot be read to its end.
    """
    found = Found()
    for tar in tars:
        samples = read_samples(tar, EXTENSIONS)
        if not samples.whole:  # what a list names in it would be missing without a reason
            raise UserError(f"{tar}: {samples.problems[-1]}")
        found.problems.extend(f"{tar}: {problem}" for problem in samples.problems)
        for sample in samples.samples.values():
            path = f"{sample.name.stem}.{sample.name.extension}"
            if path in found.members:
                found.problems.append(f"{tar}: {path} is also in {found.members[path].tar}; keep one")
                continue
            found.members[path] = Member(tar, sample.audio.offset, sample.audio.size)
            found.whose[path] = tar, sample, samples
            own = "/".join(
                part for part in posixpath.normpath(sample.audio.name).split("/") if part not in ("", "..")
            )
            if own != path:
                found.named[own] = path
    return found


def speaker(tar: str, sample: Sample, samples: TarSamples) -> str:
    """Whose a sample is, as `make-shards index` finds it by its usual rule. UserError where it does not."""
    with open(tar, "rb") as file:
        try:
            return speaker_of(sample, samples, USUAL, lambda member: read_member(file.fileno(), member))[0]
        except UserError as error:
            raise UserError(
                f"{tar}: {str(error).partition(TELL)[0]}; give --speaker NAME for all, or a list of"
                " 'speaker path' lines with --list"
            ) from error


@contextmanager
def open_member(member: Member | None, name: str) -> Iterator[BinaryIO]:
    """A member as a file. AudioError, with `name`, when there is none, or it is too long."""
    if member is None:
        raise AudioError(f"{name}: does not exist")
    if member.size > LARGEST_FILE:
        raise AudioError(f"{name}: {member.size} bytes; an utterance has at most {LARGEST_FILE}; cut it")
    with open(member.tar, "rb") as tar:
        yield cast(BinaryIO, MemberFile(tar, member.offset, member.size))
