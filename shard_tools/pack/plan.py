"""What a pack is going to make, a pure function of list and options: which utterances go to which shard.

Only the speakers of the list decide the layout, so a process that makes some of the
shards needs to look at the files of those alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from shard_tools.arrays import Int32Array, Int64Array
from shard_tools.dataset import index as index_file
from shard_tools.dataset import layout
from shard_tools.pack.corpus import Corpus
from shard_tools.pack.listing import Listing
from shard_tools.pack.task import Format, ShardTask, SourceFile
from shard_tools.records import at_least, within
from shard_tools.storage import Folder


@dataclass(frozen=True)
class PackOptions:
    """What decides the shards besides the list.

    format: "keep" the files' bytes, or re-encode as "wav" or "flac";
    convert: make what is not 16 kHz, mono, 16-bit so, instead of refusing it;
    utterances_per_shard: about so many; group: up to so many of a speaker stay together;
    seed: of the shuffle.
    """

    format: Format = "keep"
    convert: bool = False
    utterances_per_shard: Annotated[int, at_least(1)] = 1000
    group: Annotated[int, at_least(1)] = 4
    seed: Annotated[int, within(0, 2**32 - 1)] = 0


@dataclass(frozen=True, eq=False)
class Before:
    """What a set holds that a plan appends to.

    digest: SHA-256 (hex) of its manifest; speakers: in label order; shards: how many;
    labels, shard: int32 (M,), of its utterances, in the shards' order.
    """

    digest: str
    speakers: tuple[str, ...]
    shards: int
    labels: Int32Array
    shard: Int32Array


@dataclass(frozen=True, eq=False)
class PackPlan:
    """The layout of all utterances of `listing`, whose audio `corpus` holds.

    selected: the options by which something may have been left out of the list; before: what is there
    already, whose shards and labels come first.
    """

    corpus: Corpus
    listing: Listing
    options: PackOptions
    selected: Mapping[str, Any] = field(default_factory=dict)
    before: Before | None = None

    @property
    def recorded(self) -> dict[str, Any]:
        """The options that the manifest tells of."""
        return {**asdict(self.options), **self.selected}

    @property
    def first(self) -> int:
        """The number of its first shard."""
        return 0 if self.before is None else self.before.shards

    @property
    def numbers(self) -> range:
        """Of its shards."""
        return range(self.first, self.first + len(self.shards))

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """In label order, those of before among them."""
        known = () if self.before is None else self.before.speakers
        return (*known, *sorted(set(self.listing.speakers) - set(known)))

    @cached_property
    def labels(self) -> Int64Array:
        """(N,), of the list's rows."""
        label_of = {speaker: label for label, speaker in enumerate(self.speakers)}
        return np.array([label_of[speaker] for speaker in self.listing.speakers], np.int64)

    @cached_property
    def shards(self) -> list[Int64Array]:
        """For each of its shards the rows of the list, in its order."""
        options = self.options
        return layout.shard_rows(
            self.labels,
            utterances_per_shard=options.utterances_per_shard,
            group=options.group,
            seed=options.seed,
        )

    @cached_property
    def digest(self) -> str:
        """Hex digest of list and options; that of two processes differs unless they make the same shards.

        Sizes stay out of it: a file that was mended may be packed into the place that it had.
        """
        listing = self.listing
        document: list[Any] = [index_file.VERSION, listing.speakers, listing.paths, self.recorded]
        if self.before is not None:
            document.append(self.before.digest)
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    def rows(self, numbers: Sequence[int]) -> list[int]:
        """Rows of the list that these shards hold, ascending."""
        return sorted(row for number in numbers for row in self.shards[number - self.first].tolist())

    @cached_property
    def places(self) -> layout.Places:
        """Of all utterances in the shards' order, those of before first."""
        numbers = np.repeat(np.arange(self.first, self.first + len(self.shards)), self._lengths)
        labels = self.labels[np.concatenate(self.shards)]
        if self.before is not None:
            labels = np.concatenate([self.before.labels, labels])
            numbers = np.concatenate([self.before.shard, numbers])
        return layout.places(labels, numbers)

    @cached_property
    def _lengths(self) -> list[int]:
        return [len(rows) for rows in self.shards]

    def tasks(
        self, numbers: Sequence[int], files: Mapping[int, tuple[int, int]], site: Folder, scratch: str
    ) -> list[ShardTask]:
        """What to do for these shards. files: (size in bytes, mtime in ns) of each of their rows."""
        places = self.places
        before = 0 if self.before is None else len(self.before.labels)
        begins = (before + np.cumsum([0, *self._lengths])).tolist()
        tasks = []
        for number in numbers:
            rows = self.shards[number - self.first]
            begin = begins[number - self.first]
            here = slice(begin, begin + len(rows))
            columns = (rows, self.labels[rows])
            placed = (places.turn[here], places.total[here], places.next_shard[here])
            sources = tuple(
                SourceFile(
                    self.listing.speakers[row],
                    label,
                    turn,
                    total,
                    next_shard,
                    self.listing.paths[row],
                    self.listing.keys[row],
                    *files[row],
                )
                for row, label, turn, total, next_shard in zip(
                    *(column.tolist() for column in (*columns, *placed)), strict=True
                )
            )
            options = self.options
            corpus = self.corpus.part([source.path for source in sources])
            task = ShardTask(
                number, site, scratch, corpus, options.format, options.convert, sources, self.digest
            )
            tasks.append(task)
        return tasks


def dataset_inputs(shard_inputs: Sequence[str], speakers: Sequence[str], options: Mapping[str, Any]) -> str:
    """The manifest's `inputs`: hex digest of what all shards, in order, were made from."""
    document = [list(shard_inputs), list(speakers), dict(options)]
    return hashlib.sha256(json.dumps(document).encode()).hexdigest()
