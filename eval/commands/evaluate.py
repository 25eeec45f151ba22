"""Evaluates a checkpoint, or embeddings, on trial lists: error rates and reports."""

from __future__ import annotations

import argparse
import hashlib
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch

from eval.backend import Backend
from eval.commands.backend_options import backend_of, check_backend, check_calibration, points_of
from eval.commands.evaluate_options import check_options, parser
from eval.commands.options import protocol_of
from eval.commands.sets import EmbedAll, KnownSet, identification, in_cohort, read_set
from eval.commands.summary import summary
from eval.embed_all import embed_utterances
from eval.embedding_files import check_names, read_embeddings, write_embeddings
from eval.embeddings import Embeddings
from eval.evaluate import evaluate_embeddings
from eval.kept import Kept
from eval.processes import Process, joined, parsed, quietly
from eval.protocol import Protocol
from eval.ranks import together
from eval.report.audio_links import with_audio
from eval.report.evaluation import Evaluation, Person
from eval.report.meta import read_meta
from eval.report.outputs import prepare_folder, write_outputs
from eval.speakers import speakers_in
from eval.subject import Subject, check_fit, open_subject
from eval.trained_on import training_speakers
from eval.trials import Trials, read_trials, repeated
from eval.utterances import Utterances, open_all, require_all
from shard_tools import storage
from shard_tools.errors import UserError, exit_status
from shard_tools.text import redacted, shown
from shard_tools.version import version

__all__ = ["main", "parser"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    return exit_status(quietly(lambda: _evaluate(parsed(parser(), argv))), program="eval")


@dataclass(frozen=True)
class _Ready:
    """All that scoring takes, of a rank that scores; in_training: by list, speakers whom the network knows,
    None where that is not known; source: of the utterances, None of a file."""

    lists: Sequence[Trials]
    folders: Sequence[str]
    in_training: Sequence[list[str] | None]
    embeddings: Embeddings
    source: Utterances | None
    backend: Backend
    enrolled: KnownSet | None
    facts: dict[str, Any]
    config: Mapping[str, Any]
    meta: Mapping[str, Person] | None


def _evaluate(options: argparse.Namespace) -> None:
    start = time.perf_counter()
    check_options(options)
    check_backend(options)
    with joined(options.device) as process:
        ready = _ready(options, process)
    if not process.leads:
        return
    if options.save_embeddings is not None:
        write_embeddings(ready.embeddings, options.save_embeddings)
    seconds = time.perf_counter() - start
    for trials, folder, known in zip(ready.lists, ready.folders, ready.in_training, strict=True):
        speakers = speakers_in(ready.embeddings, trials.names, ready.source)
        cohort = ready.backend.cohort
        if cohort is not None and (warning := in_cohort(cohort, speakers, trials.name)) is not None:
            process.say(warning)
        result = evaluate_embeddings(
            ready.embeddings,
            trials,
            backend=ready.backend,
            points=points_of(options),
            speakers=speakers,
            draws=options.bootstrap,
            progress=True,
        )
        if ready.enrolled is not None:
            result.metrics["identification"] = identification(
                ready.enrolled,
                redacted(options.enrolment),
                ready.embeddings,
                trials.names,
                speakers,
                options.bootstrap,
            )
        result.metrics.update(ready.facts, seconds=round(seconds + result.metrics["seconds"], 3))
        if known is not None:
            result.metrics["speakers_in_training"] = known
        evaluation = Evaluation(
            result.scores, trials, result.metrics, ready.config, ready.embeddings, speakers, ready.meta
        )
        if options.audio_links and ready.source is not None:
            evaluation = with_audio(folder, evaluation, ready.source)
        _report(evaluation, folder)


def _ready(options: argparse.Namespace, process: Process) -> _Ready:
    """Read and embed what the options name, by all ranks together."""
    subject = _subject(options, process)
    urls = options.trials or [_of_run(subject, options, "trials")]
    lists = [read_trials(url) for url in urls]
    meta = None if options.meta is None else read_meta(options.meta)
    out = options.out or _needed(subject, options).out()
    folders = _folders(out, lists)
    for folder in folders:
        together(partial(_prepare, folder, process))
    if options.save_embeddings is not None:
        place, _, name = options.save_embeddings.rpartition("/")
        together(partial(_prepare, place or ".", process, f"{name}.new"))
    for trials in lists:
        if again := repeated(trials):
            process.say(f"{trials.name}: {again:,} of {len(trials):,} trials stand there again; all count")
    facts: dict[str, Any] = {"versions": _versions()}
    source = None
    if options.embeddings is not None:
        embeddings = _from_file(options.embeddings, subject)
        backend = backend_of(options, embeddings.made_by, None, process.say)
        enrolled = _enrolled(options, embeddings.made_by, None, process)
        facts["data"] = redacted(options.embeddings)
        in_training = _in_training(subject, lists, None, process)
    else:
        named = _needed(subject, options)
        source, names = _utterances(options, named, lists)
        if options.save_embeddings is not None:
            check_names(names, options.save_embeddings, "--save-embeddings")
        in_training = _in_training(named, lists, source, process)
        embed = _embedder(options, named, out, process)
        backend = backend_of(options, named.digest, embed, process.say)  # what does not fit is said first
        enrolled = _enrolled(options, named.digest, embed, process)
        embeddings = embed(source, names)
        on = torch.cuda.get_device_name(process.device) if process.device.type == "cuda" else "cpu"
        facts |= {"data": redacted(source.url), "device": on, "ranks": process.world}
    for key in ("training_set", "cohort"):
        if getattr(options, key) is not None:
            facts[f"{key}_data"] = redacted(getattr(options, key))
    if options.calibration is not None:
        facts["calibration"] = redacted(options.calibration)
        facts["calibration_sha256"] = hashlib.sha256(storage.read_bytes(options.calibration)).hexdigest()
    if embeddings.made_by:
        facts["checkpoint_sha256"] = embeddings.made_by
    if subject is not None:
        facts["checkpoint"] = redacted(subject.url)
        if subject.step is not None:
            facts["step"] = subject.step
    config = {} if subject is None else subject.config
    return _Ready(lists, folders, in_training, embeddings, source, backend, enrolled, facts, config, meta)


def _enrolled(
    options: argparse.Namespace, made_by: str, embed: EmbedAll, process: Process
) -> KnownSet | None:
    if options.enrolment is None:
        return None
    return read_set(options.enrolment, "--enrolment", made_by, embed, process.say)


def _in_training(
    subject: Subject | None, lists: Sequence[Trials], source: Utterances | None, process: Process
) -> Sequence[list[str] | None]:
    """By list; asked and told by rank 0."""

    def ask() -> Sequence[list[str] | None]:
        if subject is None or not process.leads:
            return [None] * len(lists)
        return training_speakers(subject, lists, source, process.say)

    return together(ask)


def _prepare(folder: str, process: Process, last: str = "metrics.json") -> None:
    if process.leads:
        prepare_folder(folder, last)


def _subject(options: argparse.Namespace, process: Process) -> Subject | None:
    if options.checkpoint is None:
        return None
    return open_subject(options.checkpoint, options.which, process.say)


def _needed(subject: Subject | None, options: argparse.Namespace) -> Subject:
    if subject is None:
        raise UserError(f"--embeddings {options.embeddings}: give --out too, the folder where the results go")
    return subject


def _of_run(subject: Subject | None, options: argparse.Namespace, key: Any) -> str:
    if subject is None:
        raise UserError(f"--embeddings {options.embeddings}: give --{key} too")
    return subject.own(key)


def _folders(out: str, lists: Sequence[Trials]) -> list[str]:
    """Where each list's results go. Raises UserError for lists that could not be told apart there."""
    if len(lists) == 1:
        return [out]
    names = [PurePosixPath(trials.name).stem for trials in lists]
    if len(set(names)) < len(names):
        names = [trials.name for trials in lists]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"--trials: two lists are called {twice}, and so would be their folders: rename one")
    return [storage.join(out, name) for name in names]


def _from_file(url: str, subject: Subject | None) -> Embeddings:
    embeddings = read_embeddings(url)
    if subject is not None and embeddings.made_by != subject.digest:
        said = (
            f"of the checkpoint {embeddings.made_by[:12]}…" if embeddings.made_by else "of nobody knows what"
        )
        raise UserError(
            f"{url}: embeddings {said}, and {subject.url} is {subject.digest[:12]}…: embed with it, or leave "
            "CHECKPOINT out"
        )
    return embeddings


def _utterances(
    options: argparse.Namespace, subject: Subject, lists: Sequence[Trials]
) -> tuple[Utterances, list[str]]:
    """Where the lists' utterances are, all of them, and their names. Raises UserError for missing ones."""
    source = open_all(options.data or [subject.own("data")])
    names = list(dict.fromkeys(name for trials in lists for name in trials.names))
    require_all(source, names, ", ".join(trials.name for trials in lists))
    return source, names


def _embedder(
    options: argparse.Namespace, subject: Subject, out: str, process: Process
) -> Callable[[Utterances, list[str]], Embeddings]:
    """What embeds utterances by all ranks, with the network on its device."""
    # The run's own trials are taken as the run took them.
    protocol = protocol_of(options, Protocol() if options.trials else subject.own_protocol())
    check_calibration(options, subject.digest, protocol)
    network = subject.network(process.device)
    check_fit(network, protocol)
    cache = options.cache or storage.join(out, "embeddings")

    def embed(source: Utterances, names: list[str]) -> Embeddings:
        return embed_utterances(
            network,
            source,
            names,
            device=process.device,
            protocol=protocol,
            batch_utterances=options.batch_utterances,
            threads=options.threads,
            progress=True,
            made_by=subject.digest,
            kept=None if options.no_cache else Kept(cache, subject.digest, protocol, process.say),
            say=process.say,
        )

    return embed


def _report(evaluation: Evaluation, folder: str) -> None:
    """Write what scoring a list came to, and print a few lines of it."""
    write_outputs(folder, evaluation)
    trials, report = evaluation.trials, storage.join(folder, "report.html")
    if trials.labelled:
        print(summary(dict(evaluation.metrics), report))
        return
    print(f"{trials.name}: {len(trials):,} trials without labels: no error rates")
    print(f"  scores: {shown(storage.join(folder, 'scores.txt'))}")


def _versions() -> dict[str, str]:
    return {
        "voxshard": version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
