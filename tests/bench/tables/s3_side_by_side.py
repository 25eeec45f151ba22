"""Loaders of other projects, each set up as its documentation advises, from both stores."""

from __future__ import annotations

from typing import Any

from harness.contest import NEEDS, ContestantError, Remote, fresh_process, missing, prepare
from harness.corpus import Corpus, make_corpus
from harness.settings import Settings
from harness.spread import summary
from harness.stores import BUCKET, INSTALL, Store, absent, store
from harness.task import FRAMES, Entry

TITLE = "Side by side from S3"
LAYOUT = "side_by_side_from_stores"
ABOUT = (
    "One epoch, every utterance once, by a fresh process with empty caches on one core, no augmentation, no"
    " worker processes; the store on another core. How each is set up stands at the top of its file in"
    " tests/bench/contestants. *voxshard*: ranged requests for crops (data.access direct); *cached*: whole"
    " shards. Crops per second are those of the epoch from opening the data to its end; *after the"
    " first batch* counts from there, when those who read ahead have read already. *Bytes*: of objects, as"
    " the store counts them, manifests and indexes included, ÷ the crops' own, two for each sample."
)
OURS, CACHED = "voxshard", "voxshard, cached"
MOST_BYTES = 1.05  # that ours fetches for a byte of a crop
ENTRIES = (
    Entry(OURS, "ours"),
    Entry(CACHED, "ours", {"access": "cached"}),
    Entry("webdataset, pipe:curl", "webdataset_soundfile", {"read": "seek", "by": "pipe"}),
    Entry("webdataset, its own http", "webdataset_soundfile", {"read": "seek", "by": "http"}),
    Entry("mosaicml-streaming", "mosaic_streaming"),
    Entry("litdata", "litdata_chunks"),
    Entry("lhotse Shar", "lhotse_shar"),
)


def run(settings: Settings) -> dict[str, Any]:
    corpus = make_corpus(settings.cache, settings.remote, settings.speech)
    return {"stores": [_from(name, corpus, settings) for name in INSTALL]}


def _from(name: str, corpus: Corpus, settings: Settings) -> dict[str, Any]:
    """From one store: its name, contestants with summaries of what `_epoch` found, or a reason."""
    reason = absent(name)
    if reason is not None:
        return {"name": name, "reason": reason, "contestants": []}
    results: list[dict[str, Any]] = []
    running: list[tuple[Entry, dict[str, Any], list[dict[str, float]]]] = []
    with store(name, settings.cache, settings.cpu) as started:
        started.put(corpus.shards("wav"), "shards/wav")
        for entry in ENTRIES:
            result: dict[str, Any] = {"name": entry.name, "status": "ok"}
            results.append(result)
            absent_library = missing(entry)
            if absent_library is not None:
                result.update(status="not installed", reason=absent_library)
                continue
            prepare(corpus, entry, settings, result)
            if result["status"] == "ok" and entry.module in NEEDS:
                started.put(corpus.converted(entry.module), f"converted/{entry.module}")
            running.append((entry, result, []))
        for _ in range(settings.remote_rounds):
            for entry, result, runs in running:
                if result["status"] == "ok":
                    try:
                        runs.append(_epoch(corpus, entry, settings, started))
                    except ContestantError as error:
                        result.update(status="failed", reason=str(error))
    for _, result, runs in running:
        if result["status"] == "ok":
            result.update({unit: summary([run[unit] for run in runs]) for unit in runs[0]})
    _judge(results)
    return {"name": name, "contestants": results}


def _epoch(corpus: Corpus, entry: Entry, settings: Settings, started: Store) -> dict[str, float]:
    crops = corpus.size.speakers * corpus.size.utterances
    with fresh_process(corpus, entry, settings, Remote(f"s3://{BUCKET}", started)) as process:
        before, busy = started.counts(), started.cpu_seconds()
        found = process.ask(f"epoch {crops}")
        busy, after = started.cpu_seconds() - busy, started.counts()
    rest = found["seconds"] - found["first_batch_seconds"]
    return {
        "crops_per_second": found["crops"] / found["seconds"],
        "after_first": (found["crops"] - corpus.size.speakers) / rest if rest else 0.0,
        "first_batch_seconds": found["first_batch_seconds"],
        "requests": after["requests"] - before["requests"],
        "of_crops": (after["bytes"] - before["bytes"]) / (2 * FRAMES * found["crops"]),
        "store_cpu": busy / found["seconds"],
    }


def _judge(results: list[dict[str, Any]]) -> None:
    """Whether ours is first in crops per second, and fetches as little as it should."""
    done = {result["name"]: result for result in results if result["status"] == "ok"}
    if OURS in done:
        speeds = [result["crops_per_second"]["median"] for result in done.values()]
        done[OURS]["first"] = done[OURS]["crops_per_second"]["median"] >= max(speeds)
        done[OURS]["few_bytes"] = done[OURS]["of_crops"]["median"] <= MOST_BYTES
