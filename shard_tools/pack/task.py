"""What is to be made of one shard, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shard_tools.dataset import index as index_file
from shard_tools.dataset.manifest import ShardEntry
from shard_tools.pack.corpus import Corpus
from shard_tools.storage import Folder

Format = Literal["keep", "wav", "flac"]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One utterance to pack: its file below ROOT, and the file's size and mtime when it was checked.

    turn, total, next_shard: its place among its speaker's utterances, see layout.Places.
    """

    speaker: str
    label: int
    turn: int
    total: int
    next_shard: int
    path: str
    key: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class ShardTask:
    """All that a worker needs to make shard `number` of the dataset at `site`; plan: see pack_claim.

    promised: what a manifest that stays says of it; another shard than that is not published.
    """

    number: int
    site: Folder
    scratch: str
    corpus: Corpus
    format: Format
    convert: bool
    sources: Sequence[SourceFile]
    plan: str
    promised: ShardEntry | None = None

    @property
    def tar_name(self) -> str:
        return shard_names(self.number)[0]

    @property
    def index_name(self) -> str:
        return shard_names(self.number)[1]

    def inputs(self) -> str:
        """Hex digest of all that decides the shard's bytes, with the files' sizes in place of their contents.

        Modification times stay out of it: a copy of the corpus must give the same shards.
        """
        rows = [
            [s.speaker, s.label, s.turn, s.total, s.next_shard, s.path, s.key, s.size] for s in self.sources
        ]
        document = json.dumps([index_file.VERSION, self.format, self.convert, rows])
        return hashlib.sha256(document.encode()).hexdigest()


@dataclass(frozen=True)
class ShardResult:
    """entry is None when `problems` (one line each) kept the shard from being made.

    clipped: by path, how many samples converting cut off at full scale, where it did.
    """

    entry: ShardEntry | None
    problems: list[str]
    clipped: dict[str, int]


def shard_names(number: int) -> tuple[str, str]:
    """Names of a shard's tar and of its index."""
    return f"shard-{number:06d}.tar", f"shard-{number:06d}.index.npz"
