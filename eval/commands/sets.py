"""Training sets, cohorts and enrolments as the command line names them: embeddings, or audio to embed."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eval.audio_files import everything
from eval.backend import Cohort
from eval.embedding_files import read_embeddings
from eval.embeddings import Embeddings
from eval.metrics.identification import identification_metrics
from eval.scoring.norm import check_top, speaker_means
from eval.speakers import numbered, speakers_in
from eval.utterances import Utterances, require_all
from shard_tools.arrays import Int64Array
from shard_tools.errors import UserError
from shard_tools.options import place, whole_number
from shard_tools.text import counted

# The embeddings of a source's utterances, by the network and protocol of the evaluation; None without one.
EmbedAll = Callable[[Utterances, list[str]], Embeddings] | None
TOP = 300


@dataclass(frozen=True)
class KnownSet:
    """speakers, labels: of each utterance its speaker, and their numbers, int64 (utterances,); None where
    they are not known; text: what a calibration remembers of it: how many there are, and a digest of who."""

    embeddings: Embeddings
    speakers: tuple[str, ...] | None
    labels: Int64Array | None
    text: str


def add_cohort(parser: argparse.ArgumentParser, what: str) -> None:
    """--training-set, --cohort, --cohort-of and --top. what: the cohort is for, in words."""
    parser.add_argument(
        "--training-set",
        type=place,
        metavar="URL_OR_FILE",
        help="what the scoring learns from: embeddings (.npz, .ark), or shards, a folder or a list, which "
        "are embedded first",
    )
    parser.add_argument(
        "--cohort", type=place, metavar="URL_OR_FILE", help=f"{what}: given as a --training-set is"
    )
    parser.add_argument(
        "--cohort-of",
        choices=("speakers", "utterances"),
        help="whether the cohort is each speaker's mean embedding (default) or every utterance's",
    )
    parser.add_argument(
        "--top",
        type=whole_number(2, 1_000_000),
        metavar="K",
        help=f"highest scores of the cohort that are taken by AS-norm, and by the quality measure cohort "
        f"(default {TOP})",
    )


def cohort_of(
    options: argparse.Namespace, made_by: str, embed: EmbedAll, say: Callable[[str], None], *, of_top: bool
) -> Cohort:
    """The --cohort. of_top: whether --top counts, which must then be there. Raises UserError."""
    found = read_set(options.cohort, "--cohort", made_by, embed, say)
    members, kind = found.embeddings, options.cohort_of or "speakers"
    if kind == "speakers":
        if found.labels is None:
            raise UserError(
                f"--cohort {options.cohort}: nothing says who speaks in it (shards, or paths that begin "
                "with the speaker's folder, do): give --cohort-of utterances"
            )
        assert found.speakers is not None
        # By name, for messages: labels count speakers by order of appearance, and means are in their order.
        members = replace(speaker_means(members, found.labels), names=tuple(dict.fromkeys(found.speakers)))
    top = options.top or TOP
    if of_top:
        check_top(top, len(members))
    return Cohort(members, f"{len(members)}: {kind} of {found.text}", top, frozenset(found.speakers or ()))


def in_cohort(cohort: Cohort, speakers: Sequence[str] | None, trials: str) -> str | None:
    """A warning where speakers of the list `trials` are in the cohort: they are compared with themselves."""
    shared = sorted(cohort.speakers.intersection(speakers or ()))
    if not shared:
        return None
    few = ", ".join(shared[:5]) + (", …" if len(shared) > 5 else "")
    return (
        f"warning: {counted(len(shared), 'speaker', ',')} of {trials} are in the cohort too ({few}), so that "
        "their scores are normalised by themselves: take a cohort of others"
    )


def read_set(url: str, option: str, made_by: str, embed: EmbedAll, say: Callable[[str], None]) -> KnownSet:
    """What `option` names; made_by: of the trials' embeddings. Raises UserError."""
    if url.lower().endswith((".npz", ".ark", ".scp")):
        found, source = read_embeddings(url), None
        if found.made_by and made_by and found.made_by != made_by:
            raise UserError(
                f"{option} {url}: embeddings of the checkpoint {found.made_by[:12]}…, and the trials' are of "
                f"{made_by[:12]}…: embed it with that one"
            )
    elif embed is None:
        raise UserError(f"{option} {url}: with --embeddings it must be embeddings too, .npz, .ark or .scp")
    else:
        source, names = everything(url, say)
        require_all(source, names, url)
        found = embed(source, names)
    speakers = speakers_in(found, found.names, source)
    labels = None if speakers is None else numbered(speakers)
    return KnownSet(found, speakers, labels, _text(found, labels))


def identification(
    enrolled: KnownSet,
    option: str,
    embeddings: Embeddings,
    names: Sequence[str],
    speakers: Sequence[str] | None,
    draws: int,
) -> dict[str, Any]:
    """What identification_metrics says of the utterances `names`, by `speakers`, among those enrolled.

    An utterance that is enrolled is not looked for, as it would be found by itself. Raises UserError where
    speakers are not known, or nothing is left to look for.
    """
    if enrolled.speakers is None or speakers is None:
        where = f"{option}: nothing says who speaks in it" if enrolled.speakers is None else "the trials"
        raise UserError(f"--enrolment {where}: shards, or paths that begin with the speaker's folder, do")
    there = set(enrolled.embeddings.names)
    tests = [(name, who) for name, who in zip(names, speakers, strict=True) if name not in there]
    if not tests:
        raise UserError(f"--enrolment {option}: it has all of the trials' utterances: enrol others")
    found = identification_metrics(
        enrolled.embeddings,
        enrolled.speakers,
        embeddings.take([name for name, _ in tests]),
        [who for _, who in tests],
        draws=draws,
    )
    return {**found, "enrolment": enrolled.text}


def _text(embeddings: Embeddings, labels: Int64Array | None) -> str:
    who = hashlib.sha256("\0".join(embeddings.names).encode())
    who.update(b"" if labels is None else labels.astype("<i8").tobytes())
    return f"{counted(len(embeddings), 'utterance', ',')}, {embeddings.protocol}, {who.hexdigest()[:12]}"
