"""Who speaks in each utterance of an evaluation: by shards' labels, or by the first folder of its path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.embeddings import Embeddings
from eval.trials import Trials
from eval.utterances import SeveralUtterances, ShardUtterances, Utterances
from shard_tools.arrays import Int64Array


def speakers_of(names: Sequence[str], source: Utterances | None = None) -> tuple[str, ...] | None:
    """The speaker of each utterance; None where neither shards nor the paths tell.

    A path tells where it has a folder: `id10270/5r0dWxy17C8/00001.wav` is of id10270. Of shards every
    utterance must be there.
    """
    if isinstance(source, ShardUtterances):
        return source.speakers(names)
    if isinstance(source, SeveralUtterances):
        found = [speakers_of([name], source.source(name)) for name in names]
        known = [each[0] for each in found if each is not None]
        return tuple(known) if len(known) == len(names) else None
    if all("/" in name for name in names):
        return tuple(name.split("/", 1)[0] for name in names)
    return None


def labelled_speakers(names: Sequence[str], source: Utterances) -> tuple[str, ...] | None:
    """What Embeddings keep of who speaks: what shards say, which the names may not."""
    return speakers_of(names, source) if isinstance(source, ShardUtterances | SeveralUtterances) else None


def speakers_in(
    embeddings: Embeddings, names: Sequence[str], source: Utterances | None = None
) -> tuple[str, ...] | None:
    """As `speakers_of`; without a source as the embeddings say, if they do."""
    if source is None and embeddings.speakers is not None:
        known = embeddings.speakers
        return tuple(known[row] for row in embeddings.rows(names).tolist())
    return speakers_of(names, source)


def numbered(speakers: Sequence[str]) -> Int64Array:
    """The number of each one's speaker, int64, by order of appearance."""
    places: dict[str, int] = {}
    return np.array([places.setdefault(speaker, len(places)) for speaker in speakers], np.int64)


def contradictions(speakers: Sequence[str], trials: Trials) -> Int64Array:
    """The trials, int64, whose label contradicts `speakers`, of each of trials.names; none without labels.

    Where there are some, `speakers` are not who speaks: of folders that are no speakers' perhaps.
    """
    number = numbered(speakers)
    same = number[trials.left] == number[trials.right]
    return np.flatnonzero((same != (trials.label == 1)) & (trials.label >= 0))
