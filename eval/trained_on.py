"""Speakers of an evaluation that the network was trained on: its error rates are then too good."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.speakers import speakers_of
from eval.subject import Subject
from eval.utterances import Utterances
from shard_tools import storage
from shard_tools.dataset import manifest
from shard_tools.errors import UserError

_SHOWN = 10


def training_speakers(
    subject: Subject, names: Sequence[str], source: Utterances, say: Callable[[str], None]
) -> list[str] | None:
    """Those of the utterances' speakers that are in the shards which the checkpoint was trained on, sorted.

    None where that cannot be known: a checkpoint does not hold its speakers' names, so that the manifests at
    its run's data.url are asked, quickly; or it is no checkpoint of a run, or nothing names the speakers.
    say: is told of those who are found.
    """
    speakers = speakers_of(names, source)
    trained = _trained_on(subject)
    if speakers is None or trained is None:
        return None
    found = sorted(set(speakers) & trained)
    if found:
        few = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        say(
            f"warning: {len(found):,} of the {len(set(speakers)):,} speakers were in the training, of "
            f"whom error rates say too little: {few}"
        )
    return found


def _trained_on(subject: Subject) -> set[str] | None:
    urls = (subject.config.get("data") or {}).get("url")
    urls = [urls] if isinstance(urls, str) else urls
    if not isinstance(urls, list) or not urls or any("***" in str(url) for url in urls):
        return None
    speakers: set[str] = set()
    try:
        with storage.hurried():
            for url in urls:
                place = storage.join(str(url), manifest.NAME)
                speakers.update(manifest.from_bytes(storage.read_bytes(place), place).speakers)
    except UserError:  # moved since, or out of reach
        return None
    return speakers
