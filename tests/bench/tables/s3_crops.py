"""Crops per second from S3, by one reading process: plain, augmented, FLAC, with either client."""

from __future__ import annotations

from typing import Any

from harness.contest import Remote, contest
from harness.corpus import Corpus, make_corpus
from harness.settings import Settings
from harness.spread import Target, ratios
from harness.stores import BUCKET, INSTALL, absent, store
from harness.task import Entry

TITLE = "Crops from S3"
LAYOUT = "crops_from_stores"
ABOUT = (
    "voxshard by ranged requests (data.access direct), one process on one core, the store on another."
    " *Noise from the store*: each recording that is added is a ranged request of its own, 1.4 a crop;"
    " impulse responses are kept, as ever. *Brought to the node*: noise and rooms are copied to it"
    " first, as remote ones of their size are unless told otherwise. *Store's CPU*: cores that the store kept"
    " busy meanwhile, all of its threads. nginx looks at no signature; SeaweedFS does, and its CPU is what"
    " limits those who ask it."
)
PLAIN, REMOTE, NEAR, FLAC = (
    "WAV, no augmentation",
    "WAV, augmented, noise from the store",
    "WAV, augmented, noise brought to the node",
    "FLAC, no augmentation",
)
FORMS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    REMOTE: {"augment": True, "near": False},
    NEAR: {"augment": True, "near": True},
    FLAC: {"codec": "flac"},
}
LEAST = {PLAIN: 8000.0, REMOTE: 3000.0, NEAR: 5000.0, FLAC: 1700.0}  # crops per second from nginx
CLIENTS = {"": {}, ", by s3fs": {"client": "s3fs"}}
ENTRIES = tuple(
    Entry(form + client, "ours", {**options, **own})
    for form, options in FORMS.items()
    for client, own in CLIENTS.items()
)
RATIOS = tuple(Target(form, f"{form}, by s3fs") for form in FORMS)


def run(settings: Settings) -> dict[str, Any]:
    corpus = make_corpus(settings.cache, settings.remote, settings.speech)
    speech = "real speech" if settings.speech else "made-up speech"
    return {"speech": speech, "stores": [_from(name, corpus, settings) for name in INSTALL]}


def _from(name: str, corpus: Corpus, settings: Settings) -> dict[str, Any]:
    """The figures from one store: its name, contestants, ratios, or a reason why there are none."""
    reason = absent(name)
    if reason is not None:
        return {"name": name, "reason": reason, "contestants": [], "ratios": []}
    with store(name, settings.cache, settings.cpu) as started:
        for kind in ("wav", "flac", "noises", "rooms"):
            started.put(corpus.shards(kind), f"shards/{kind}")
        found = contest(corpus, ENTRIES, settings, Remote(f"s3://{BUCKET}", started))
    for result in found:
        least = LEAST.get(result["name"]) if name == "nginx" else None
        if least is not None and result["status"] == "ok":
            result.update(at_least=least, met=result["crops_per_second"]["median"] >= least)
    return {"name": name, "contestants": found, "ratios": ratios(found, RATIOS)}
