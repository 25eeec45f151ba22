"""A store that fails one request in five: the same batches, and how many a second."""

from __future__ import annotations

from typing import Any

from harness.contest import ContestantError, Remote, contest, fresh_process
from harness.corpus import Corpus, make_corpus
from harness.settings import Settings
from harness.spread import Target, ratios
from harness.stores import BUCKET, FAULTS, absent, faulty_proxy, store
from harness.task import Entry

TITLE = "Faults of S3"
LAYOUT = "faults"
BATCHES = 8
ABOUT = (
    f"WAV, no augmentation, data.access direct. {FAULTS} % of the requests fail: nginx itself answers with"
    " status 500 or 503 or hangs up; and a proxy of Python in front of it, slow without any fault too,"
    " does besides cut answers short and give other bytes than were asked for, and whole objects. Each"
    " failed request is asked for again after data.storage.first_wait seconds, 0.25 unless given, then after"
    f" twice as long. *Same batches*: the samples of the first {BATCHES} batches are those from the local"
    " disk, by their SHA-256."
)
CALM, NGINX, PROXY, PROXIED = (
    "nginx",
    f"nginx, {FAULTS} % faults",
    "through the proxy",
    f"through the proxy, {FAULTS} % faults",
)
HASTY = f"nginx, {FAULTS} % faults, first_wait 0.02"
CASES: dict[str, dict[str, Any]] = {  # options, and to which address
    CALM: {},
    NGINX: {"address": "faulty"},
    HASTY: {"address": "faulty", "first_wait": 0.02},
    PROXY: {"address": "proxy"},
    PROXIED: {"address": "faulty proxy"},
}
TARGETS = (Target(NGINX, CALM), Target(HASTY, CALM), Target(PROXIED, PROXY))


def run(settings: Settings) -> dict[str, Any]:
    reason = absent("nginx")
    if reason is not None:
        return {
            "contestants": [{"name": CALM, "status": "not installed", "reason": reason}],
            "ratios": [],
        }
    corpus = make_corpus(settings.cache, settings.remote, settings.speech)
    expected = _digest(corpus, Entry("disk", "ours"), settings, None)
    with (
        store("nginx", settings.cache, settings.cpu) as started,
        faulty_proxy(started, 0, settings.cpu) as calm,
        faulty_proxy(started, FAULTS / 100, settings.cpu) as faulty,
    ):
        started.put(corpus.shards("wav"), "shards/wav")
        at = {"faulty": started.faulty, "proxy": calm, "faulty proxy": faulty}
        entries = [
            Entry(name, "ours", {**options, "address": at.get(options.get("address", ""))})
            for name, options in CASES.items()
        ]
        remote = Remote(f"s3://{BUCKET}", started)
        results = contest(corpus, entries, settings, remote)
        for entry, result in zip(entries, results, strict=True):
            if result["status"] == "ok":
                result["same"] = _digest(corpus, entry, settings, remote) == expected
    return {"contestants": results, "ratios": ratios(results, TARGETS)}


def _digest(corpus: Corpus, entry: Entry, settings: Settings, remote: Remote | None) -> str:
    try:
        with fresh_process(corpus, entry, settings, remote) as process:
            return str(process.ask(f"digest {BATCHES}"))
    except ContestantError as error:
        return str(error)
