"""Loaders of other projects, each set up as its documentation advises, on a local disk."""

from __future__ import annotations

from typing import Any

from harness.contest import contest
from harness.corpus import make_corpus
from harness.settings import Settings
from harness.spread import Target, ratios
from harness.task import Entry

TITLE = "Side by side with other loaders"
LAYOUT = "rates"
ABOUT = (
    "Crops per second from the local disk, one core, no augmentation, no worker processes, each in its own"
    " format, page cache warm. How each is set up stands at the top of its file in tests/bench/contestants."
)
OURS = "voxshard"
ENTRIES = (
    Entry(OURS, "ours"),
    Entry("webdataset", "webdataset_soundfile", {"read": "seek"}),
    Entry("mosaicml-streaming", "mosaic_streaming"),
    Entry("litdata", "litdata_chunks"),
    Entry("lhotse Shar", "lhotse_shar"),
)
TARGETS = tuple(Target(OURS, entry.name) for entry in ENTRIES[1:])


def run(settings: Settings) -> dict[str, Any]:
    local = contest(make_corpus(settings.cache, settings.local), ENTRIES, settings)
    return {"contestants": local, "ratios": ratios(local, TARGETS)}
