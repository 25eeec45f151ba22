"""What a pack takes in: the utterances that are chosen of a list or of all below ROOT, and their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from shard_tools.audio.convert import EXTENSIONS as CONVERTIBLE
from shard_tools.dataset.keys import AUDIO_EXTENSIONS
from shard_tools.pack.check import Checked, check_sources
from shard_tools.pack.claim import Claim
from shard_tools.pack.corpus import Corpus, find_corpus
from shard_tools.pack.listing import Listing, read_listing
from shard_tools.pack.plan import Before, PackOptions, PackPlan
from shard_tools.pack.selected import Report
from shard_tools.pack.selection import Held, Selection, select


@dataclass(frozen=True)
class Wanted:
    """As the user says it.

    root: a folder or archive; list_url: file of "speaker relative/path.wav" lines; without it all of root's
    audio, the first folder being the speaker, or `speaker` that of all.
    """

    root: str
    list_url: str | None = None
    speaker: str | None = None
    options: PackOptions = field(default_factory=PackOptions)
    selection: Selection = field(default_factory=Selection)


@dataclass(frozen=True, eq=False)
class Intake:
    """corpus: where the audio is; listing: what is packed; checked: of its files, where they were looked at
    to choose; report: of the choice."""

    wanted: Wanted
    corpus: Corpus
    listing: Listing
    checked: list[Checked] | None
    report: Report

    def plan(self, before: Before | None = None) -> PackPlan:
        wanted = self.wanted
        return PackPlan(self.corpus, self.listing, wanted.options, wanted.selection.decides(), before)

    def files(
        self, plan: PackPlan, numbers: Sequence[int], workers: int, progress: bool
    ) -> dict[int, tuple[int, int]]:
        """(size, mtime) of the files of these shards, by their rows of the list, after a look at each."""
        rows = plan.rows(numbers)
        if self.checked is not None:
            found = [self.checked[row] for row in rows]
        else:
            paths = [self.listing.paths[row] for row in rows]
            convert = self.wanted.options.convert
            found = check_sources(self.corpus, paths, convert=convert, workers=workers, progress=progress)
        return {row: (file.size, file.mtime_ns) for row, file in zip(rows, found, strict=True)}


def take_in(wanted: Wanted, *, workers: int, progress: bool) -> Intake:
    """Read the list, and choose. Raises as `read_listing` and `select` do."""
    corpus, listing = read_wanted(wanted)
    return choose(wanted, corpus, listing, workers=workers, progress=progress)


def read_wanted(wanted: Wanted) -> tuple[Corpus, Listing]:
    """All that may be chosen. Raises as `find_corpus` and `read_listing` do."""
    corpus = find_corpus(wanted.root)
    extensions = CONVERTIBLE if wanted.options.convert else AUDIO_EXTENSIONS
    return corpus, read_listing(corpus, wanted.list_url, wanted.speaker, extensions)


def choose(
    wanted: Wanted,
    corpus: Corpus,
    listing: Listing,
    *,
    workers: int,
    progress: bool,
    held: Held | None = None,
) -> Intake:
    """What is wanted of `listing`. held: what the set has that it is added to. Raises as `select` does."""
    chosen = select(
        corpus,
        listing,
        wanted.selection,
        convert=wanted.options.convert,
        workers=workers,
        progress=progress,
        held=held,
    )
    return Intake(wanted, corpus, chosen.listing, chosen.checked, chosen.report)


def claim_of(plan: PackPlan, wanted: Wanted, parts: int) -> Claim:
    """What is said at the URL of the shards that are going to be made there."""
    return Claim(
        plan=plan.digest,
        shards=len(plan.shards),
        parts=parts,
        root=wanted.root,
        list=wanted.list_url,
        speaker=wanted.speaker,
        options=plan.recorded,
        speakers=plan.speakers,
    )
