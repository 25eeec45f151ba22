"""Speakers of an evaluation that the network was trained on: its error rates are then too good."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eval.speakers import contradictions, speakers_of
from eval.subject import Subject
from eval.trials import Trials
from eval.utterances import Utterances
from shard_tools import storage
from shard_tools.dataset.shardwise import open_shardwise
from shard_tools.errors import UserError

_SHOWN = 10


def training_speakers(
    subject: Subject, lists: Sequence[Trials], source: Utterances | None, say: Callable[[str], None]
) -> list[list[str] | None]:
    """For each list, its speakers who are in the shards that the checkpoint was trained on, sorted.

    None where that cannot be known: a checkpoint does not hold its speakers' names, so that the manifests at
    its run's data.url are asked, quickly; or it is no checkpoint of a run, or nothing names the list's
    speakers, or its labels contradict the names. source: where the utterances are, None for paths alone.
    say: is told of those who are found.
    """
    trained = _trained_on(subject)
    return [None if trained is None else _of_list(trials, source, trained, say) for trials in lists]


def _of_list(
    trials: Trials, source: Utterances | None, trained: Sequence[Sequence[str]], say: Callable[[str], None]
) -> list[str] | None:
    speakers = speakers_of(trials.names, source)
    if speakers is None or len(contradictions(speakers, trials)):
        return None
    known = set(speakers)
    found = sorted({speaker for own in trained for speaker in own if speaker in known})
    if found:
        few = ", ".join(found[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
        say(
            f"warning: {trials.name}: {len(found):,} of the {len(set(speakers)):,} speakers were in the "
            f"training, so that its error rates are too low: {few}"
        )
    return found


def _trained_on(subject: Subject) -> list[Sequence[str]] | None:
    """The speakers of each set of the training."""
    urls = (subject.config.get("data") or {}).get("url")
    urls = [urls] if isinstance(urls, str) else urls
    if not isinstance(urls, list) or not urls or any("***" in str(url) for url in urls):
        return None
    try:
        with storage.hurried():
            return [open_shardwise(str(url), held=1).speakers for url in urls]
    except UserError:  # moved since, or out of reach
        return None
