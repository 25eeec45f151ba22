"""Local disk, augmentation on: our loader and the VoxCeleb trainer's way."""

from __future__ import annotations

from typing import Any

from harness.contest import contest
from harness.corpus import make_corpus
from harness.settings import Settings
from harness.spread import Target, ratios
from harness.task import Entry

TITLE = "Local disk, augmentation on"
LAYOUT = "rates"
ABOUT = (
    "Crops per second, one core. Each crop is left alone, reverberated, or gets noise, music or 3 to 7"
    " voices, with equal chances. Spectra of impulse responses are kept in memory; “spectra made anew” keeps"
    " almost none, as when there are tens of thousands of rooms."
)
ENTRIES = (
    Entry("voxshard, WAV shards", "ours", {"augment": True}),
    Entry("voxshard, WAV shards, spectra made anew", "ours", {"augment": True, "cache_mib": 1}),
    Entry("voxshard, FLAC shards", "ours", {"augment": True, "codec": "flac"}),
    Entry("as the VoxCeleb trainer", "voxceleb_like", {"augment": True}),
)
TARGETS = (
    Target("voxshard, WAV shards", "as the VoxCeleb trainer", 8.0),
    Target("voxshard, WAV shards, spectra made anew", "as the VoxCeleb trainer"),
    Target("voxshard, FLAC shards", "as the VoxCeleb trainer"),
)


def run(settings: Settings) -> dict[str, Any]:
    corpus = make_corpus(settings.cache, settings.local)
    results = contest(corpus, ENTRIES, settings)
    return {"contestants": results, "ratios": ratios(results, TARGETS)}
