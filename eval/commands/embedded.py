"""All utterances of a set, embedded by the ranks of a command together, in parts that a kill leaves."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from eval.audio_files import everything
from eval.commands.options import protocol_of
from eval.embed_all import embed_utterances
from eval.embedding_files import check_names
from eval.embeddings import Embeddings
from eval.kept import Kept
from eval.processes import Process
from eval.protocol import Protocol
from eval.subject import Subject, check_fit, open_subject
from eval.utterances import Utterances, require_all


@dataclass(frozen=True)
class EmbeddedSet:
    """kept: what is cleared when the embeddings have been written where they are wanted."""

    subject: Subject
    source: Utterances
    embeddings: Embeddings
    protocol: Protocol
    kept: Kept


def embed_set(
    options: argparse.Namespace, process: Process, parts: str, out: str | None, option: str
) -> EmbeddedSet:
    """What `options` (add_checkpoint, --data, add_protocol, add_machine) ask for, on every rank.

    parts: the folder of what is done before all is; out: where the embeddings will be written as `option`
    says, a kind of file that must be able to hold the names. Raises UserError, on all ranks.
    """
    subject = open_subject(options.checkpoint, options.which, process.say)
    protocol = protocol_of(options, Protocol())
    source, names = everything(options.data, process.say)
    if out is not None:
        check_names(names, out, option)
    require_all(source, names, options.data)
    network = subject.network(process.device)
    check_fit(network, protocol)
    kept = Kept(parts, subject.digest, protocol, process.say)
    embeddings = embed_utterances(
        network,
        source,
        names,
        device=process.device,
        protocol=protocol,
        batch_utterances=options.batch_utterances,
        threads=options.threads,
        progress=True,
        made_by=subject.digest,
        kept=kept,
        say=process.say,
    )
    return EmbeddedSet(subject, source, embeddings, protocol, kept)
