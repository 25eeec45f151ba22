"""A store that is far away: crops per second by the requests under way, and their memory."""

from __future__ import annotations

from typing import Any

from harness.contest import Remote, contest
from harness.corpus import make_corpus
from harness.settings import Settings
from harness.spread import Target, ratios
from harness.stores import BUCKET, DELAY_MS, absent, store
from harness.task import Entry

TITLE = "A store that is far away"
LAYOUT = "latency"
CONNECTIONS = (32, 64, 128, 256, 512)  # data.storage.connections
ABOUT = (
    f"WAV, no augmentation, data.access direct, from nginx as it is and where it holds each answer back for"
    f" {DELAY_MS} ms, by the number of requests that may be under way (data.storage.connections). Memory: the"
    " process's highest, of which most is what it has loaded."
)
NEAR = "no latency"
LEAST = 0.8  # of the crops per second without latency, by the best number of connections


def far(connections: int | None) -> str:
    return f"{DELAY_MS} ms, " + ("as it comes" if connections is None else f"{connections} requests")


def run(settings: Settings) -> dict[str, Any]:
    reason = absent("nginx")
    if reason is not None:
        return {
            "contestants": [{"name": NEAR, "status": "not installed", "reason": reason}],
            "ratios": [],
        }
    corpus = make_corpus(settings.cache, settings.remote, settings.speech)
    with store("nginx", settings.cache, settings.cpu) as started:
        started.put(corpus.shards("wav"), "shards/wav")
        late = {"address": started.slow}
        entries = [Entry(NEAR, "ours"), Entry(far(None), "ours", late)]
        entries += [Entry(far(many), "ours", {**late, "connections": many}) for many in CONNECTIONS]
        results = contest(corpus, entries, settings, Remote(f"s3://{BUCKET}", started))
    targets = [Target(far(None), NEAR, LEAST), *(Target(far(many), NEAR) for many in CONNECTIONS)]
    return {"contestants": results, "ratios": ratios(results, targets)}
