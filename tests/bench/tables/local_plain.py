"""Local disk, augmentation off: our loader, plain webdataset, the VoxCeleb trainer's way, and bare reads."""

from __future__ import annotations

from typing import Any

from harness.contest import contest
from harness.corpus import make_corpus
from harness.settings import Settings
from harness.spread import Target, ratios
from harness.task import Entry

TITLE = "Local disk, augmentation off"
LAYOUT = "rates"
ABOUT = (
    "Crops per second, one core. “Bare pread” reads the bytes of the same crops, located beforehand,"
    " and converts them to float32, into fresh memory each time."
)
OURS, WHOLE = "voxshard, WAV shards", "webdataset, utterance decoded whole"
ENTRIES = (
    Entry(OURS, "ours"),
    Entry("voxshard, FLAC shards", "ours", {"codec": "flac"}),
    Entry(WHOLE, "webdataset_soundfile", {"read": "whole"}),
    Entry("webdataset, SoundFile.seek", "webdataset_soundfile", {"read": "seek"}),
    Entry("as the VoxCeleb trainer", "voxceleb_like"),
    Entry("bare pread", "bare_pread"),
)
TARGETS = (
    Target(OURS, WHOLE, 10.0),
    Target(OURS, "webdataset, SoundFile.seek"),
    Target(OURS, "as the VoxCeleb trainer"),
    Target(OURS, "bare pread", 1 / 3),
)


def run(settings: Settings) -> dict[str, Any]:
    corpus = make_corpus(settings.cache, settings.local)
    results = contest(corpus, ENTRIES, settings)
    return {"contestants": results, "ratios": ratios(results, TARGETS)}
