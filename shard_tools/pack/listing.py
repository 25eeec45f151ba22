"""Which files to pack, and whose: a list of "speaker relative/path.wav" lines, or all below a folder."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shard_tools import storage
from shard_tools.dataset.keys import AUDIO_EXTENSIONS, key_of, key_problem, speaker_problem
from shard_tools.errors import UserError
from shard_tools.pack.corpus import Corpus, find_corpus
from shard_tools.text import has_control

_PROBLEMS_SHOWN = 10
_MOST_PROBLEMS = 10_000
_LARGEST_LIST = 512 * 2**20
_LONGEST_PATH = 4096  # bytes, Linux's PATH_MAX
_LONGEST_SHOWN = 80
_LINE_END = re.compile(r"\r\n|[\r\n]")  # of those of str.splitlines, the ones that end a line of a list


class ProblemsError(UserError):
    """Several things are wrong at once: how many, and the first ten, one a line."""

    def __init__(self, problems: Sequence[str], consequence: str) -> None:
        self.problems = list(problems)
        if len(self.problems) == 1:
            super().__init__(f"{self.problems[0]}; {consequence}")
            return
        shown = self.problems[:_PROBLEMS_SHOWN]
        if len(shown) < len(self.problems):
            shown = [*shown, f"… and {len(self.problems) - len(shown)} more"]
        super().__init__("\n  ".join([f"{len(self.problems)} problems; {consequence}:", *shown]))

    def __reduce__(self) -> tuple[type[Exception], tuple[str]]:
        return UserError, (str(self),)


@dataclass(frozen=True)
class Listing:
    """Utterances in list order: row i is file paths[i] (relative, with "/") of speakers[i], key keys[i]."""

    speakers: list[str]
    paths: list[str]
    keys: list[str]

    def __len__(self) -> int:
        return len(self.paths)

    def at(self, rows: Sequence[int]) -> Listing:
        """Those rows alone."""
        return Listing(
            [self.speakers[row] for row in rows],
            [self.paths[row] for row in rows],
            [self.keys[row] for row in rows],
        )


def read_listing(
    root: str | Corpus,
    list_url: str | None,
    speaker: str | None = None,
    extensions: tuple[str, ...] = AUDIO_EXTENSIONS,
) -> Listing:
    """The utterances to pack from `root`, a folder or archive: a list's, or every .wav and .flac in it.

    speaker: of all of them, without a list; None: the first folder of each path. extensions: of the files
    that count, without a list.

    Raises UserError when there is no such folder or no utterance, ProblemsError
    for lines that are not "speaker path", paths that escape `root` or come twice,
    and files whose keys clash. Whether the files exist is not looked at.
    """
    corpus = find_corpus(root) if isinstance(root, str) else root
    root = corpus.root
    problems: list[str] = []
    if list_url is None:
        rows = _walk(corpus, speaker, extensions, problems)
    else:
        rows = _read_list(list_url, problems)
    listing = Listing([], [], [])
    place_of_key: dict[str, tuple[str, str]] = {}
    for place, speaker, path in rows:
        key = key_of(path)
        reason = key_problem(key)
        if reason:
            problems.append(f"{place}: {path!r}: {reason}")
            continue
        if key in place_of_key:
            other_place, other = place_of_key[key]
            if other == path:
                problems.append(f"{place}: {path} is listed already at {other_place}")
            else:
                choice = "rename one" if list_url else "rename one, or give a list of one of them with --list"
                problems.append(f"{place}: {path} and {other} would both have the key {key!r}; {choice}")
            continue
        place_of_key[key] = place, path
        listing.speakers.append(sys.intern(speaker))
        listing.paths.append(path)
        listing.keys.append(key)
    if problems:
        raise ProblemsError(problems, "nothing was packed")
    if not listing.paths:
        if list_url is not None:
            raise UserError(
                f"{list_url}: lists no utterance; its lines must read 'speaker relative/path.wav'"
            )
        if extensions != AUDIO_EXTENSIONS:
            raise UserError(f"{root}: no audio below it; check ROOT, or give a list with --list")
        raise UserError(
            f"{root}: no .wav or .flac below it; check ROOT, give a list with --list, or --convert for m4a"
            " and the like"
        )
    return listing


def _read_list(list_url: str, problems: list[str]) -> Iterator[tuple[str, str, str]]:
    """(place, speaker, normalised path) of each good line."""
    for number, line in read_lines(list_url):
        if len(problems) >= _MOST_PROBLEMS:
            raise ProblemsError(problems, f"{list_url} was read no further, and nothing was packed")
        fields = line.split(maxsplit=1)
        if not fields:
            continue
        place = f"{list_url}:{number}"
        if len(fields) == 1:
            problems.append(f"{place}: {_short(line)} is one field; needed is 'speaker relative/path.wav'")
            continue
        speaker, path = fields[0], fields[1].rstrip()
        if has_control(speaker) or has_control(path):
            problems.append(f"{place}: {_short(line)} holds control characters; is it a list?")
            continue
        if max(len(speaker), len(path)) > _LONGEST_PATH:
            problems.append(f"{place}: {_short(line)} is longer than a path can be; is it a list?")
            continue
        if reason := speaker_problem(speaker):
            problems.append(f"{place}: the speaker {_short(speaker)} {reason}; name it otherwise")
            continue
        if path.startswith("/"):
            problems.append(f"{place}: {path} is absolute; give the path relative to ROOT")
            continue
        normalised = posixpath.normpath(path)
        if normalised == ".." or normalised.startswith("../"):
            problems.append(f"{place}: {path} lies outside ROOT")
            continue
        yield place, speaker, normalised


def read_lines(list_url: str) -> Iterator[tuple[int, str]]:
    """(number, text) of each line of a list in UTF-8, with or without a byte-order mark, whatever ends it."""
    return enumerate(_LINE_END.split(_text(list_url)), 1)


def _text(list_url: str) -> str:
    size = storage.size(list_url)
    if size > _LARGEST_LIST:
        raise UserError(
            f"{list_url}: {size / 2**20:.0f} MiB; a list of 'speaker relative/path.wav' lines has"
            f" {_LARGEST_LIST / 2**20:.0f} at most; is it a list?"
        )
    try:
        return storage.read_bytes(list_url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{list_url}: not UTF-8 text (byte {error.start}); is it a list? If so, save it as UTF-8"
        ) from error


def _short(line: str) -> str:
    shown = repr(line.strip())
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[: _LONGEST_SHOWN - 2]}…'"


def _walk(
    corpus: Corpus, speaker_of_all: str | None, extensions: tuple[str, ...], problems: list[str]
) -> Iterator[tuple[str, str, str]]:
    """(place, speaker, path) of each audio file below `root`, sorted by path."""
    root = corpus.root
    paths, unseen = corpus.paths(extensions)
    problems += unseen
    for path in paths:
        speaker, slash, _ = path.partition("/")
        try:
            told = corpus.speaker(path) if speaker_of_all is None else speaker_of_all
        except UserError as error:
            problems.append(str(error))
            continue
        if told is not None:
            yield root, told, path
        elif not slash:
            problems.append(
                f"{os.path.join(root, path)}: lies directly in ROOT, so its speaker is unknown;"
                " give --speaker NAME for all that lies below ROOT, such as a category of noise, or a list of"
                " 'speaker path' lines with --list"
            )
        elif speaker.split() != [speaker]:
            problems.append(
                f"{os.path.join(root, speaker)}: a speaker's name has no blanks; rename the folder"
            )
        else:
            yield root, speaker, path
