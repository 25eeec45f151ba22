"""Loaders of other projects, each set up as its documentation advises, on a local disk and from S3."""

from __future__ import annotations

from typing import Any

from harness.contest import NEEDS, ContestantError, cold_epoch, contest, missing, prepare
from harness.corpus import Corpus, make_corpus
from harness.endpoint import BUCKET, Endpoint, endpoint
from harness.settings import Settings
from harness.spread import Target, ratios, summary
from harness.task import Entry

TITLE = "Side by side with other loaders"
LAYOUT = "rates_and_s3"
ABOUT = (
    "Crops per second, one core, no augmentation, no worker processes. How each is set up stands at"
    " the top of its file in tests/bench/contestants. *Local disk*: each in its own format, page cache"
    " warm. *S3*: voxshard by ranged requests for crops (data.access direct), and by whole shards"
    " (cached); one epoch, every utterance once, by a fresh process with empty caches. The endpoint"
    " is moto's server, pure Python on the other core, and it limits everyone: compare requests and"
    " bytes, and take crops per second there as a check that it works."
)
OURS = "voxshard"
ENTRIES = (
    Entry(OURS, "ours"),
    Entry("webdataset", "webdataset_soundfile", {"read": "seek"}),
    Entry("mosaicml-streaming", "mosaic_streaming"),
    Entry("litdata", "litdata_chunks"),
    Entry("lhotse Shar", "lhotse_shar"),
)
CACHED = Entry("voxshard, cached", "ours", {"access": "cached"})
S3_ENTRIES = (ENTRIES[0], CACHED, *ENTRIES[1:])
TARGETS = tuple(Target(OURS, entry.name) for entry in ENTRIES[1:])


def run(settings: Settings) -> dict[str, Any]:
    local = contest(make_corpus(settings.cache, settings.local), ENTRIES, settings)
    return {
        "contestants": local,
        "ratios": ratios(local, TARGETS),
        "s3": from_s3(make_corpus(settings.cache, settings.remote), settings),
    }


def from_s3(corpus: Corpus, settings: Settings) -> list[dict[str, Any]]:
    """One dict an entry: name, status, reason, and summaries of crops_per_second, requests, …"""
    results: list[dict[str, Any]] = []
    prefix = corpus.folder.name
    with endpoint(settings.cpu) as store:
        store.upload(corpus.shards("wav"), f"{prefix}/shards/wav")
        running: list[tuple[Entry, dict[str, Any], list[dict[str, float]]]] = []
        for entry in S3_ENTRIES:
            result: dict[str, Any] = {"name": entry.name, "status": "ok"}
            results.append(result)
            reason = missing(entry)
            if reason is not None:
                result.update(status="not installed", reason=reason)
                continue
            prepare(corpus, entry, settings, result)
            if result["status"] == "ok" and entry.module in NEEDS:
                store.upload(corpus.converted(entry.module), f"{prefix}/converted/{entry.module}")
            running.append((entry, result, []))
        for _ in range(settings.remote_rounds):
            for entry, result, runs in running:
                if result["status"] == "ok":
                    _epoch(corpus, entry, settings, store, result, runs)
    for _, result, runs in running:
        if runs:
            result.update({name: summary([run[name] for run in runs]) for name in runs[0]})
    return results


def _epoch(
    corpus: Corpus,
    entry: Entry,
    settings: Settings,
    store: Endpoint,
    result: dict[str, Any],
    runs: list[dict[str, float]],
) -> None:
    before = store.counts()
    try:
        found = cold_epoch(
            corpus,
            entry,
            settings,
            remote=f"s3://{BUCKET}/{corpus.folder.name}",
            environment=store.environment,
            crops=corpus.size.speakers * corpus.size.utterances,
        )
    except ContestantError as error:
        result.update(status="failed", reason=str(error))
        return
    after = store.counts()
    runs.append(
        {
            "crops_per_second": found["crops"] / found["seconds"],
            "first_batch_seconds": found["first_batch_seconds"],
            "requests": after["requests"] - before["requests"],
            "bytes_per_crop": (after["bytes"] - before["bytes"]) / found["crops"],
        }
    )
