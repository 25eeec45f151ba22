"""Which of the listed utterances are packed: by length, by what they hold, and by how many a speaker has.

A pure function of the lists, the files and the options, in this order: utterances that are named to be left
out go, then those that are too short or too long, then those whose audio an earlier one of the list has, then
speakers with too few left. All files must be known for what they hold, so parts of a pack are given a list
from which it has been done before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from shard_tools.dataset.key_list import KeyList, check_all_found
from shard_tools.errors import UserError
from shard_tools.pack.check import Checked, check_sources
from shard_tools.pack.corpus import Corpus
from shard_tools.pack.duplicates import originals
from shard_tools.pack.listing import Listing, ProblemsError
from shard_tools.pack.selected import Left, Report
from shard_tools.pack.statistics import measure
from shard_tools.records import at_least
from shard_tools.text import counted

Duplicates = Literal["keep", "report", "drop", "refuse"]


@dataclass(frozen=True)
class Selection:
    """What is packed of a list, and what is told of it.

    drop: the keys that are left out; of a manifest, the digest of their list. min_seconds, max_seconds: of an
    utterance, both included; None: any. min_utterances: of a speaker, after all else. duplicates: what
    becomes of utterances whose audio another one has: "keep" does not look for them, "report" names them,
    "drop" leaves out all but the first in the list's order, "refuse" raises. statistics: whether silence and
    clipping are measured.
    """

    drop: KeyList | str | None = None
    min_seconds: float | None = None
    max_seconds: float | None = None
    min_utterances: Annotated[int, at_least(1)] = 1
    duplicates: Duplicates = "keep"
    statistics: bool = False

    @property
    def looks(self) -> bool:
        """Whether it depends on what is in the files."""
        return self.of_lengths or self.duplicates != "keep" or self.statistics

    @property
    def of_lengths(self) -> bool:
        return self.min_seconds is not None or self.max_seconds is not None

    def decides(self) -> dict[str, bool | int | float | str]:
        """What is recorded of it: the options that may leave something out, where they are given."""
        defaults = asdict(Selection())
        kept = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        if isinstance(self.drop, KeyList):
            kept["drop"] = self.drop.digest
        kept |= {name: float(value) for name, value in kept.items() if name.endswith("_seconds")}
        kept.pop("statistics", None)
        if self.duplicates != "drop":
            kept.pop("duplicates", None)
        return kept


@dataclass(frozen=True)
class Selected:
    """listing: what is packed; checked: what a look at its files told, if there was one; report: of all."""

    listing: Listing
    checked: list[Checked] | None
    report: Report


@dataclass(frozen=True)
class Held:
    """What a set has already that a list is added to. utterances: of each speaker; keys: those of the list's
    keys that it has, with their speakers."""

    utterances: Mapping[str, int]
    keys: Mapping[str, str]


def check_selection(selection: Selection) -> None:
    """Raise UserError for bounds that nothing can lie between."""
    low, high = selection.min_seconds, selection.max_seconds
    if low is not None and high is not None and low > high:
        raise UserError(f"--min-seconds {low:g} is more than --max-seconds {high:g}: nothing is as long")


def refuse_in_part(selection: Selection) -> None:
    """Raise UserError for what a part of a pack, which looks at its own files alone, cannot know."""
    given = {
        "--min-seconds": selection.min_seconds is not None,
        "--max-seconds": selection.max_seconds is not None,
        "--duplicates": selection.duplicates != "keep",
        "--statistics": selection.statistics,
    }
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise UserError(
            f"{' and '.join(names)}: not with --part, which looks at its own files alone, where all of them"
            " must be known: make the list once, with make-shards select ROOT LIST and the same options, and"
            " give --list LIST to every part"
        )


def select(
    corpus: Corpus,
    listing: Listing,
    selection: Selection,
    *,
    convert: bool,
    workers: int,
    progress: bool,
    held: Held | None = None,
) -> Selected:
    """The utterances of `listing`, whose audio `corpus` holds, that `selection` leaves.

    held: what else the set will have; a speaker's utterances there count as left.

    Raises ProblemsError for files that cannot be packed and for duplicates that are refused, and UserError
    when nothing is left.
    """
    check_selection(selection)
    rows = list(range(len(listing)))
    left: list[Left] = []
    checked: dict[int, Checked] | None = None
    twins: list[Left] = []
    if isinstance(selection.drop, KeyList):
        left += _dropped(corpus, listing, selection.drop)
        rows = _without(rows, left)
    if selection.looks:
        found = check_sources(
            corpus,
            [listing.paths[row] for row in rows],
            convert=convert,
            workers=workers,
            progress=progress,
            lengths=selection.of_lengths or selection.duplicates != "keep",
        )
        checked = dict(zip(rows, found, strict=True))
    if checked is not None and selection.of_lengths:
        left += _outside(listing, checked, rows, selection)
        rows = _without(rows, left)
    if checked is not None and selection.duplicates != "keep":
        twins = _twins(corpus, listing, checked, rows, workers, progress)
        if selection.duplicates == "refuse" and twins:
            raise ProblemsError(
                [f"{twin.path}: {twin.why}" for twin in twins],
                "nothing was packed; unlist them, or --duplicates drop leaves them out",
            )
        if selection.duplicates == "drop":
            left += twins
            rows = _without(rows, twins)
    few = _few(listing, rows, selection.min_utterances, held)
    rows = _without(rows, few)
    left += few
    if not rows:
        kinds = Counter(each.kind for each in left)
        each_kind = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise UserError(
            f"{corpus.root}: of {len(listing)} listed utterances none is left to pack ({each_kind})"
        )
    chosen = listing.at(rows) if left else listing
    statistics: Mapping[str, Any] | None = None
    if selection.statistics:
        statistics = measure(corpus, chosen.paths, convert=convert, workers=workers, progress=progress)
    report = Report(
        listed=len(listing),
        packed=len(rows),
        speakers_listed=len(set(listing.speakers)),
        speakers_packed=len(set(chosen.speakers)),
        options={**selection.decides(), "duplicates": selection.duplicates},
        left=tuple(sorted(left, key=lambda each: each.row)),
        duplicates=None if selection.duplicates == "keep" else tuple(twins),
        single=_single(listing, rows, held),
        statistics=statistics,
    )
    return Selected(chosen, None if checked is None else [checked[row] for row in rows], report)


def _without(rows: list[int], left: list[Left]) -> list[int]:
    gone = {each.row for each in left}
    return [row for row in rows if row not in gone] if gone else rows


def _dropped(corpus: Corpus, listing: Listing, drop: KeyList) -> list[Left]:
    keys = set(drop.keys)
    left = [Left.of(listing, row, "dropped", drop.url) for row, key in enumerate(listing.keys) if key in keys]
    if len(left) < len(keys):
        where = f"the list of what is packed of {corpus.root}"
        check_all_found(f"--drop {drop.url}", drop.keys, set(listing.keys), where)
    return left


def _outside(
    listing: Listing, checked: Mapping[int, Checked], rows: list[int], selection: Selection
) -> list[Left]:
    low, high = selection.min_seconds or 0.0, selection.max_seconds
    left = []
    for row in rows:
        file = checked[row]
        if file.seconds < low:
            left.append(Left.of(listing, row, "short", f"{file.seconds:.3f} s"))
        elif high is not None and file.seconds > high:
            left.append(Left.of(listing, row, "long", f"{file.seconds:.3f} s"))
    return left


def _twins(
    corpus: Corpus,
    listing: Listing,
    checked: Mapping[int, Checked],
    rows: list[int],
    workers: int,
    progress: bool,
) -> list[Left]:
    paths, files = [listing.paths[row] for row in rows], [checked[row] for row in rows]
    first = originals(corpus, paths, files, workers=workers, progress=progress)
    twins = []
    for place, original in enumerate(first.tolist()):
        if original == place:
            continue
        row, other = rows[place], rows[original]
        own, theirs = listing.speakers[row], listing.speakers[other]
        of = "" if own == theirs else f", of speaker {theirs}, not {own}"
        why = f"holds the audio of {listing.paths[other]}{of}"
        twins.append(Left.of(listing, row, "duplicate", why, own != theirs))
    return twins


def with_enough(listing: Listing, least: int) -> Listing:
    """Without the speakers who have fewer than `least` utterances."""
    rows = list(range(len(listing)))
    return listing.at(_without(rows, _few(listing, rows, least, None)))


def _few(listing: Listing, rows: list[int], least: int, held: Held | None) -> list[Left]:
    if least <= 1:
        return []
    count = _counts(listing, rows, held)
    of_both = "" if held is None else ", with those of the set"
    return [
        Left.of(listing, row, "few", f"its speaker has {counted(count[speaker], 'utterance')} left{of_both}")
        for row in rows
        for speaker in [listing.speakers[row]]
        if count[speaker] < least
    ]


def _single(listing: Listing, rows: list[int], held: Held | None) -> tuple[str, ...]:
    """The speakers of these rows who have no other utterance."""
    count = _counts(listing, rows, held)
    return tuple(
        sorted({speaker for row in rows for speaker in [listing.speakers[row]] if count[speaker] == 1})
    )


def _counts(listing: Listing, rows: list[int], held: Held | None) -> Counter[str]:
    """How many utterances each speaker has in these rows and in what is held; those in both count once."""
    count = Counter(listing.speakers[row] for row in rows)
    if held is not None:
        count.update(held.utterances)
        count.subtract(held.keys[key] for row in rows for key in [listing.keys[row]] if key in held.keys)
    return count
