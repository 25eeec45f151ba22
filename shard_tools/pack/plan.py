"""What a pack is going to make, a pure function of list and options: which utterances go to which shard.

Only the speakers of the list decide the layout, so a process that makes some of the
shards needs to look at the files of those alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from shard_tools.arrays import Int64Array
from shard_tools.dataset import index as index_file
from shard_tools.dataset import layout
from shard_tools.pack.corpus import Corpus
from shard_tools.pack.listing import Listing
from shard_tools.pack.writer import Format, ShardTask, SourceFile
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
    utterances_per_shard: int = 1000
    group: int = 4
    seed: int = 0


@dataclass(frozen=True, eq=False)
class PackPlan:
    """The layout of all utterances of `listing`, whose audio `corpus` holds."""

    corpus: Corpus
    listing: Listing
    options: PackOptions

    @cached_property
    def speakers(self) -> tuple[str, ...]:
        """In label order."""
        return tuple(sorted(set(self.listing.speakers)))

    @cached_property
    def labels(self) -> Int64Array:
        """(N,), of the list's rows."""
        label_of = {speaker: label for label, speaker in enumerate(self.speakers)}
        return np.array([label_of[speaker] for speaker in self.listing.speakers], np.int64)

    @cached_property
    def shards(self) -> list[Int64Array]:
        """For each shard its rows of the list, in its order."""
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
        document = [index_file.VERSION, listing.speakers, listing.paths, asdict(self.options)]
        return hashlib.sha256(json.dumps(document).encode()).hexdigest()

    def rows(self, numbers: Sequence[int]) -> list[int]:
        """Rows of the list that these shards hold, ascending."""
        return sorted(row for number in numbers for row in self.shards[number].tolist())

    def tasks(
        self, numbers: Sequence[int], files: Mapping[int, tuple[int, int]], site: Folder, scratch: str
    ) -> list[ShardTask]:
        """What to do for these shards. files: (size in bytes, mtime in ns) of each of their rows."""
        lengths = [len(rows) for rows in self.shards]
        in_order = np.concatenate(self.shards)
        places = layout.places(self.labels[in_order], np.repeat(np.arange(len(lengths)), lengths))
        ends = np.cumsum(lengths).tolist()
        tasks = []
        for number in numbers:
            here = slice(ends[number] - lengths[number], ends[number])
            columns = (self.shards[number], self.labels[self.shards[number]])
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
