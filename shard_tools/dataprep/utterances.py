"""What lists are made of: utterances with their speakers, found below a folder or named by a table."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from shard_tools.audio.convert import EXTENSIONS
from shard_tools.dataset.keys import key_of, key_problem, speaker_problem
from shard_tools.errors import UserError
from shard_tools.pack.corpus import find_corpus
from shard_tools.text import has_control

_LONGEST_SHOWN = 300


@dataclass
class Found:
    """speakers: by the path, relative to the root with "/", of each utterance; genders: "f" or "m" by
    speaker, as far as known; problems: a line each; notes: what was left out, and why."""

    speakers: dict[str, str] = field(default_factory=dict)
    genders: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, place: str, speaker: str, path: str) -> None:
        """An utterance that `place` tells of; what is wrong with it becomes a problem."""
        reason = speaker_problem(speaker)
        if reason is not None:
            self.problems.append(f"{place}: the speaker {speaker[:80]!r} {reason}")
            return
        reason = key_problem(key_of(path))
        if reason is not None or has_control(path):
            self.problems.append(f"{place}: {path!r}: {reason or 'its name holds control characters'}")
            return
        other = self.speakers.setdefault(path, speaker)
        if other != speaker:
            self.problems.append(f"{place}: {path} is of {speaker} here and of {other} above")

    def refuse_alike(self, root: str) -> None:
        """Files that would have one key, as of those that differ only in their ending, become problems."""
        keys: dict[str, str] = {}
        for path in self.speakers:
            other = keys.setdefault(key_of(path), path)
            if other != path:
                self.problems.append(
                    f"{root}: {other} and {path} differ only in their ending; remove one, or name a folder"
                    " that holds one of them"
                )


def walk(root: str) -> list[str]:
    """Every audio file below `root`, a folder or ZIP archive, relative to it, sorted. UserError for none."""
    paths, problems = find_corpus(root).paths(EXTENSIONS)
    if problems:
        raise UserError(f"{problems[0]}{f' (and {len(problems) - 1} more)' if len(problems) > 1 else ''}")
    if not paths:
        raise UserError(f"{root}: no audio below it")
    return paths


class OnDisk:
    """The files below `root` by a name that tables have for them, whatever their endings are now.

    Letters with accents are the same whether they are one character or two, as they are on a Mac; where a
    table has backslashes and no file has, they part folders, as on Windows.
    """

    def __init__(self, root: str, paths: Iterable[str], name_of: Callable[[str], str | None]) -> None:
        self._root, self._name_of = root, name_of
        self._paths: dict[str, list[str]] = {}
        for path in paths:
            name = name_of(path)
            if name is not None:
                self._paths.setdefault(_composed(name), []).append(path)

    def find(self, listed: str) -> str:
        """The file that a table calls `listed`. UserError, without a place, when it is none or not one."""
        paths = self._named(listed) or self._named(listed.replace("\\", "/"))
        if len(paths) > 1 and listed in paths:
            return listed
        shown = listed if len(listed) <= _LONGEST_SHOWN else listed[: _LONGEST_SHOWN - 1] + "…"
        if not paths:
            raise UserError(f"{shown} is not below {self._root}, with this ending or another")
        if len(paths) > 1:
            raise UserError(
                f"{shown} may be {' or '.join(paths[:3])}; give a folder that holds one of them alone"
            )
        return paths[0]

    def _named(self, listed: str) -> list[str]:
        name = self._name_of(posixpath.normpath(listed))
        return [] if name is None else self._paths.get(_composed(name), [])


def _composed(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def stem(path: str) -> str:
    """`path` without its ending."""
    return posixpath.splitext(path)[0]


def relative(path: str, root: str) -> str:
    """A path that a table names, relative to `root` with "/". UserError for one that lies elsewhere."""
    path = path.replace(os.sep, "/")
    if path.startswith("/"):
        path = os.path.relpath(path, os.path.abspath(root)).replace(os.sep, "/")
    path = posixpath.normpath(path)
    if path == ".." or path.startswith("../"):
        raise UserError(f"{path} lies outside of {root}")
    return path
