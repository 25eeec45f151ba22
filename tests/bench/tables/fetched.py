"""Bytes that our own ways of reading fetch from S3, as the server counts them."""

from __future__ import annotations

from typing import Any

from harness.contest import ContestantError, Remote, fresh_process
from harness.corpus import Corpus, make_corpus
from harness.settings import Settings
from harness.stores import BUCKET, Store, absent, store
from harness.task import FRAMES, Entry

TITLE = "Bytes fetched from S3"
LAYOUT = "fetched"
ABOUT = (
    "What voxshard fetches, as nginx counts it; nothing is timed. An epoch of every utterance once, by"
    " a fresh process with empty caches, the manifest and the indexes included. *Ranged*: the bytes of crops"
    " (data.access direct); *verified*: whole blocks, checked by their CRC-32 (data.verify crops); *cached*:"
    " whole shards (data.access cached). A crop's own bytes are two for each of its samples."
)
ENTRIES = (
    Entry("WAV, ranged", "ours"),
    Entry("WAV, ranged, verified", "ours", {"verify": "crops"}),
    Entry("FLAC, ranged", "ours", {"codec": "flac"}),
    Entry("FLAC, ranged, verified", "ours", {"codec": "flac", "verify": "crops"}),
    Entry("WAV, cached", "ours", {"access": "cached"}),
)
AGAIN = {"WAV, cached": "WAV, cached, second epoch"}  # entries that go on, and the name of that row


def run(settings: Settings) -> dict[str, Any]:
    """One dict a row: name, status, reason, requests, bytes, and these as shares: of_crops, of_shards."""
    reason = absent("nginx")
    if reason is not None:
        return {
            "contestants": [
                {"name": entry.name, "status": "not installed", "reason": reason} for entry in ENTRIES
            ]
        }
    corpus = make_corpus(settings.cache, settings.remote, settings.speech)
    results: list[dict[str, Any]] = []
    with store("nginx", settings.cache, settings.cpu) as started:
        for codec in ("wav", "flac"):
            started.put(corpus.shards(codec), f"shards/{codec}")
        for entry in ENTRIES:
            try:
                results += _epochs(corpus, entry, settings, started)
            except ContestantError as error:
                results.append({"name": entry.name, "status": "failed", "reason": str(error)})
    return {"contestants": results}


def _epochs(corpus: Corpus, entry: Entry, settings: Settings, started: Store) -> list[dict[str, Any]]:
    crops = corpus.size.speakers * corpus.size.utterances
    shards = corpus.shards(entry.options.get("codec", "wav"))
    of_shards = sum(path.stat().st_size for path in shards.glob("*.tar"))
    commands = {entry.name: f"epoch {crops}"}
    if entry.name in AGAIN:
        commands[AGAIN[entry.name]] = f"more {crops}"
    found = []
    with fresh_process(corpus, entry, settings, Remote(f"s3://{BUCKET}", started)) as process:
        for name, command in commands.items():
            before = started.counts()
            own = 2 * FRAMES * process.ask(command)["crops"]
            requests, fetched = (started.counts()[of] - before[of] for of in ("requests", "bytes"))
            shares = {"of_crops": fetched / own, "of_shards": fetched / of_shards}
            found.append({"name": name, "status": "ok", "requests": requests, "bytes": fetched, **shares})
    return found
