"""What is told of a selection: lines at the end, a small JSON, and the list of all that was left out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from shard_tools.pack import statistics as measured
from shard_tools.pack.listing import Listing
from shard_tools.text import counted

Kind = Literal["dropped", "short", "long", "duplicate", "few"]
_WORDS: Mapping[Kind, str] = {
    "dropped": "named by --drop",
    "short": "shorter than --min-seconds",
    "long": "longer than --max-seconds",
    "duplicate": "hold the audio of another one",
    "few": "of speakers with fewer than --min-utterances",
}
_FEW = 3  # names in a line
_SOME = 100  # names in the JSON


@dataclass(frozen=True, slots=True)
class Left:
    """An utterance that is not packed, or is one of two: its row of the list, and why.

    of_another: whether it is a duplicate of another speaker's.
    """

    row: int
    kind: Kind
    speaker: str
    path: str
    why: str
    of_another: bool = False

    @staticmethod
    def of(listing: Listing, row: int, kind: Kind, why: str, of_another: bool = False) -> Left:
        return Left(row, kind, listing.speakers[row], listing.paths[row], why, of_another)


@dataclass(frozen=True)
class Report:
    """left: in the list's order; duplicates: None where they were not looked for; single: speakers of whom
    one utterance is packed; statistics: see statistics.measure."""

    listed: int
    packed: int
    speakers_listed: int
    speakers_packed: int
    options: Mapping[str, Any]
    left: tuple[Left, ...]
    duplicates: tuple[Left, ...] | None
    single: tuple[str, ...]
    statistics: Mapping[str, Any] | None

    @property
    def wanted(self) -> bool:
        """Whether anything was asked for that is worth a file."""
        asked = self.duplicates is not None or self.statistics is not None
        return asked or any(name != "duplicates" for name in self.options)


def to_json(report: Report) -> bytes:
    """The same selection gives the same bytes."""
    kinds = Counter(each.kind for each in report.left)
    gone = report.speakers_listed - report.speakers_packed
    document: dict[str, Any] = {
        "options": dict(report.options),
        "listed": {"utterances": report.listed, "speakers": report.speakers_listed},
        "packed": {"utterances": report.packed, "speakers": report.speakers_packed},
        "left_out": {kind: kinds[kind] for kind in _WORDS} | {"speakers": gone},
        "speakers_with_one_utterance": {"count": len(report.single), "first": report.single[:_SOME]},
    }
    if report.duplicates is not None:
        document["duplicates"] = {
            "utterances": len(report.duplicates),
            "of_another_speaker": sum(twin.of_another for twin in report.duplicates),
        }
    if report.statistics is not None:
        document["statistics"] = dict(report.statistics)
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def to_table(report: Report) -> bytes:
    """Tab-separated lines "kind, speaker, path, why" of all that was left out or is a duplicate."""
    rows = {each.row: each for each in (*(report.duplicates or ()), *report.left)}
    lines = [f"{each.kind}\t{each.speaker}\t{each.path}\t{each.why}\n" for _, each in sorted(rows.items())]
    return "".join(["kind\tspeaker\tpath\twhy\n", *lines]).encode()


def said(report: Report, table: str | None) -> Iterator[str]:
    """For people, a line each. table: where all of it stands."""
    by_kind: dict[Kind, list[Left]] = {}
    for each in report.left:
        by_kind.setdefault(each.kind, []).append(each)
    for kind, words in _WORDS.items():
        left = by_kind.get(kind)
        if left:
            speakers = f" ({counted(len({each.speaker for each in left}), 'speaker')})" * (kind == "few")
            yield f"left out: {counted(len(left), 'utterance')}{speakers} {words}: {_names(left)}"
    if report.left:
        gone = report.speakers_listed - report.speakers_packed
        yield (
            f"left out in all: {len(report.left)} of {counted(report.listed, 'utterance')},"
            f" {gone} of {counted(report.speakers_listed, 'speaker')}"
        )
    if report.duplicates is not None:
        twins = report.duplicates
        others = sum(twin.of_another for twin in twins)
        shown = ", ".join(f"{twin.path} {twin.why}" for twin in twins[:1])
        yield (
            f"duplicates: {counted(len(twins), 'utterance')}, {others} of them of another speaker"
            + (f" ({shown}{', …' * (len(twins) > 1)})" if twins else "")
        )
    if report.single:
        names = ", ".join(report.single[:_FEW]) + ", …" * (len(report.single) > _FEW)
        yield (
            f"{counted(len(report.single), 'speaker')} with a single utterance, of whom no pair can be made:"
            f" {names}; --min-utterances 2 leaves them out"
        )
    if report.statistics is not None:
        yield from measured.lines(dict(report.statistics))
    if table is not None:
        yield f"all of it: {table}"


def _names(left: list[Left]) -> str:
    return ", ".join(f"{each.path} ({each.why})" for each in left[:_FEW]) + ", …" * (len(left) > _FEW)
