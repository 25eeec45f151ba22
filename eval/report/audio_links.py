"""Copies of the worst errors' audio beside the report, so that one can listen to them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from eval.report.evaluation import Evaluation
from eval.report.worst import worst_trials
from eval.utterances import Utterances
from shard_tools import audio, storage

FOLDER = "audio"
SECONDS = 10  # of each, from its start


def with_audio(url: str, evaluation: Evaluation, source: Utterances) -> Evaluation:
    """The evaluation with links to WAV files of its worst errors, which are written to url/audio.

    The first SECONDS of each utterance. Nothing is written for a list without labels. Raises StorageError,
    and UserError for audio that cannot be read.
    """
    if not evaluation.trials.labelled:
        return evaluation
    trials, at = evaluation.trials, float(evaluation.metrics["eer_threshold"])
    rows = [row for label in (0, 1) for row in worst_trials(evaluation.scores, trials, at, label).tolist()]
    names = (trials.names[side[row]] for row in rows for side in (trials.left, trials.right))
    return replace(evaluation, audio=copy_audio(url, source, names))


def copy_audio(url: str, source: Utterances, names: Iterable[str]) -> dict[str, str]:
    """Links, by name, of WAV files 000.wav, 001.wav, … below url/audio, of these utterances' starts."""
    links: dict[str, str] = {}
    for number, name in enumerate(dict.fromkeys(names)):
        samples = source.load(name)[: SECONDS * audio.SAMPLE_RATE]
        links[name] = f"{FOLDER}/{number:03d}.wav"
        storage.publish_bytes(storage.join(url, links[name]), audio.encode(samples, "wav"))
    return links
