"""The samples of a tar, and what else is in it: the one reading that indexing and verifying share.

A sample is a member KEY.wav or KEY.flac; the members beside it, KEY.json for one, share its stem. Every
other member is counted by its kind, or is a problem: audio that cannot be read where it lies.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from shard_tools.dataset.keys import AUDIO_EXTENSIONS, MemberName, key_problem, member_name
from shard_tools.dataset.tar_headers import TarError
from shard_tools.dataset.tar_members import DIRECTORY, FILE, SPARSE, Member, members, shown
from shard_tools.errors import UserError

# Audio that shards do not hold: left out, utterances would be missing without a word.
_OTHER_AUDIO = re.compile(
    "mp3|m4a|mp4|aac|ogg|oga|opus|wma|aif|aiff|aifc|au|snd|caf|amr|3gp|sph|w64|rf64|webm|mka|mkv|wv|ape"
)
_LARGEST_READ = 0x7FFFF000  # bytes; what Linux reads at once


@dataclass(frozen=True, slots=True)
class Sample:
    """An utterance: its audio member, and what that member's name says."""

    name: MemberName
    audio: Member

    @property
    def key(self) -> str:
        return self.name.key

    @property
    def title(self) -> str:
        """The audio member's name, fit for a message."""
        return shown(self.audio.name)


@dataclass
class TarSamples:
    """samples: by key, in the tar's order; problems: one line each, without the tar's name;
    whole: whether the tar could be read to its end; other_audio: how many of the problems are audio of
    another kind.
    """

    samples: dict[str, Sample] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    whole: bool = True
    other_audio: int = 0
    _beside: dict[tuple[str, str], list[Member]] = field(default_factory=dict)
    _others: list[tuple[str, Member]] = field(default_factory=list)
    _read: set[int] = field(default_factory=set)

    def beside(self, sample: Sample, extension: str) -> Member | None:
        """The member KEY.`extension` of `sample`, or None. UserError when there are two, or it is no file."""
        for stem in (sample.name.stem, sample.name.short):
            found = self._beside.get((stem, extension), [])
            if len(found) > 1:
                raise UserError(
                    f"{shown(found[0].name)} and {shown(found[1].name)} both belong to it; keep one"
                )
            if found:
                if found[0].kind != FILE:
                    raise UserError(_not_a_file(found[0]))
                self._read.add(found[0].header)
                return found[0]
        return None

    def passed_over(self) -> Iterator[tuple[str, str]]:
        """(kind, name) of every member that is neither audio of a sample nor was asked for, nor a folder."""
        stems = {stem for sample in self.samples.values() for stem in (sample.name.stem, sample.name.short)}
        for kind, member in self._others:
            if member.header not in self._read:
                alone = kind == ".json" and member_name(member.name).stem not in stems
                yield f"{kind} without audio" if alone else kind, shown(member.name)


def read_samples(path: str, extensions: tuple[str, ...] = AUDIO_EXTENSIONS) -> TarSamples:
    """What the tar at `path` holds. Never raises for what is in it: `problems` says it.

    extensions: of members that are a sample's audio, in lower case with their dots.
    """
    found = TarSamples()
    for member in _until_damaged(members(path), found):
        if member.kind != DIRECTORY:
            _sort_in(member, member_name(member.name), extensions, found)
    return found


def read_member(file: int, member: Member) -> bytes:
    """The data of a member from an open tar. Raises UserError where they are not there, or too many."""
    if member.size > _LARGEST_READ:
        raise UserError(f"{shown(member.name)}: {member.size} bytes, more than an utterance can have")
    try:
        data = os.pread(file, member.size, member.offset)
    except OSError as error:
        raise UserError(f"{shown(member.name)}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise UserError(f"{shown(member.name)}: no memory for its {member.size} bytes") from error
    if len(data) != member.size:
        raise UserError(
            f"{shown(member.name)}: {len(data)} of {member.size} bytes are left; the tar was changed"
        )
    return data


def _until_damaged(walk: Iterable[Member], found: TarSamples) -> Iterator[Member]:
    try:
        yield from walk
    except TarError as error:
        found.problems.append(str(error))
        found.whole = False


def _sort_in(member: Member, name: MemberName, extensions: tuple[str, ...], found: TarSamples) -> None:
    if name.hidden:
        found._others.append(("hidden", member))
    elif f".{name.extension}" in extensions:
        _add_sample(member, name, found)
    elif _OTHER_AUDIO.fullmatch(name.extension):
        found.other_audio += 1
        found.problems.append(
            f"{shown(member.name)}: shards hold .wav and .flac alone; convert it, or take it out"
        )
    else:
        kind = f".{name.extension}" if name.extension else "without extension"
        found._others.append((shown(kind) if member.kind == FILE else member.kind, member))
        found._beside.setdefault((name.stem, name.extension), []).append(member)


def _add_sample(member: Member, name: MemberName, found: TarSamples) -> None:
    other = found.samples.get(name.key)
    reason = key_problem(name.key)
    if member.kind != FILE:
        found.problems.append(_not_a_file(member))
    elif reason is not None:
        found.problems.append(f"{shown(member.name)}: {reason}")
    elif other is None:
        found.samples[name.key] = Sample(name, member)
    elif other.audio.name == member.name:
        found.problems.append(
            f"{other.title} is in it more than once (bytes {other.audio.offset}, {member.offset})"
        )
    else:
        found.problems.append(
            f"{other.title} and {shown(member.name)} would both have the key {name.key!r}; keep one"
        )


def _not_a_file(member: Member) -> str:
    where = f"{shown(member.name)} (byte {member.header})"
    if member.kind == SPARSE:
        return f"{where} is a sparse file, not stored as it is; make the tar without --sparse"
    if member.link:
        return (
            f"{where} is a {member.kind} to {shown(member.link)}, without data of its own; make the tar with"
            " --dereference --hard-dereference"
        )
    return f"{where} is a {member.kind}, not a file; make the tar without it"
