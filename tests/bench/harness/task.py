"""What a contestant is asked to do, in a form that goes over to another process."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.corpus import Corpus, Size

FRAMES = 200 * 160 + 240  # 200 feature frames


@dataclass(frozen=True)
class Entry:
    """A contestant as a table lists it: a module of `contestants` and its options."""

    name: str  # unique in the table
    module: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """Crops of `frames` audio frames in batches of `batch`, float32 tensors (batch, frames) in [-1, 1).

    remote: s3:// address below which the corpus's shards/ and converted/ lie, or None: on the local disk;
    scratch: an empty folder for caches of the contestant's own.
    """

    corpus: Corpus
    entry: Entry
    scratch: Path
    remote: str | None = None
    frames: int = FRAMES

    @property
    def batch(self) -> int:
        return self.corpus.size.speakers

    def option(self, name: str) -> Any:
        return self.entry.options.get(name)

    def place(self, local: Path) -> str:
        """Where a folder of the corpus is to be read from: its path, or its copy in the bucket."""
        if self.remote is None:
            return str(local)
        return f"{self.remote}/{local.relative_to(self.corpus.folder)}"


def to_json(task: Task) -> str:
    return json.dumps(asdict(task), default=str)


def from_json(text: str) -> Task:
    values = json.loads(text)
    corpus = Corpus(Path(values["corpus"]["folder"]), Size(**values["corpus"]["size"]))
    rest = {name: values[name] for name in ("remote", "frames")}
    return Task(corpus=corpus, entry=Entry(**values["entry"]), scratch=Path(values["scratch"]), **rest)
