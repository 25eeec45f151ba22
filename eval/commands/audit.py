"""Audits the labels of a training set: mislabelled utterances, and speakers who are there twice."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from eval.audit.audit import audit
from eval.audit.outputs import document, doubt, dropped, write_audit
from eval.commands.embedded import embed_set
from eval.commands.options import add_checkpoint, add_machine, add_protocol
from eval.embeddings import Embeddings, load_embeddings
from eval.processes import Process, joined, parsed, quietly
from eval.ranks import together
from eval.report.outputs import prepare_folder
from eval.speakers import numbered, speakers_in
from eval.utterances import open_utterances, require_all
from shard_tools import storage
from shard_tools.dataset.keys import key_of
from shard_tools.errors import UserError, exit_status
from shard_tools.launched import launched
from shard_tools.options import number, place
from shard_tools.text import counted, redacted, shown
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  python -m eval audit runs/first --data s3://bucket/vox2 --out audit --save-embeddings audit/embeddings.npz
  torchrun --standalone --nproc-per-node 8 -m eval audit runs/first --data s3://bucket/vox2 --out audit
  python -m eval audit --embeddings audit/embeddings.npz --data s3://bucket/vox2 --out audit --margin 0.05
  make-shards pack voxceleb2/wav shards/cleaned --drop audit/drop.txt
  python -m train --config configs/resnet34.yaml --data.url s3://bucket/vox2 --data.exclude audit/drop.txt

OUT then holds drop.txt (keys of suspect utterances, one a line), audit.json (all that was found) and
audit.html. Listen to some of them before leaving anything out. Memory: the embeddings, one more vector of
each utterance, and about 200 MB, whatever the number of utterances and speakers. Started again after a kill
it goes on with what was embedded.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    return exit_status(quietly(lambda: _audit(parsed(parser(), argv))), program="eval audit")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m eval audit",
        description="Find utterances that are more alike to another speaker than to the others of their own, "
        "and speakers who are as alike as two halves of one.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint(made, optional=True)
    made.add_argument(
        "--data",
        type=place,
        metavar="SHARDS",
        help="the training set; with --embeddings it tells the speakers, which else are the first folders of "
        "their names",
    )
    made.add_argument("--embeddings", type=place, metavar="FILE", help="of the set's utterances, as .npz")
    made.add_argument("--out", type=place, required=True, metavar="FOLDER", help="made if absent")
    made.add_argument(
        "--save-embeddings", type=place, metavar="FILE", help="keep the embeddings, for --embeddings"
    )
    made.add_argument(
        "--margin",
        type=number(-2, 2),
        default=0.0,
        metavar="M",
        help="by how much more alike to another speaker an utterance must be (cosine, default 0)",
    )
    made.add_argument(
        "--pair-similarity",
        type=number(-1, 1),
        metavar="S",
        help="cosine of two speakers' means above which they are one (default: what 95 %% of the speakers "
        "reach with their own two halves)",
    )
    made.add_argument(
        "--drop-duplicates",
        action="store_true",
        help="put the utterances of the smaller speaker of each pair into drop.txt too",
    )
    add_protocol(made, "default: whole")
    add_machine(made)
    add_version(made)
    return made


def _audit(options: argparse.Namespace) -> None:
    if (options.checkpoint is None) == (options.embeddings is None):
        raise UserError(
            "give a CHECKPOINT and --data to embed the set, or --embeddings of it: one of the two"
        )
    if options.checkpoint is not None and options.data is None:
        raise UserError("--data is not set: give the shards of the training set")
    if options.embeddings is not None:
        place_of = launched()
        if place_of is None or place_of.rank == 0:
            prepare_folder(options.out, "audit.json")
            _judge(options, load_embeddings(options.embeddings), None)
        return
    with joined(options.device) as process:
        together(lambda: prepare_folder(options.out, "audit.json") if process.leads else None)
        parts = options.save_embeddings or storage.join(options.out, "embeddings")
        found = embed_set(options, process, f"{parts}.parts", options.save_embeddings, "--save-embeddings")

        def judge(process: Process = process) -> None:
            if process.leads:
                if options.save_embeddings is not None:
                    found.embeddings.save(options.save_embeddings)
                _judge(options, found.embeddings, redacted(found.subject.url))
                found.kept.clear()

        together(judge)


def _judge(options: argparse.Namespace, embeddings: Embeddings, checkpoint: str | None) -> None:
    speakers = _speakers(options.data, embeddings)
    labels, names = numbered(speakers), list(dict.fromkeys(speakers))
    found = audit(
        embeddings.vectors,
        labels,
        len(names),
        margin=options.margin,
        pair_similarity=options.pair_similarity,
    )
    keys = [key_of(name) for name in embeddings.names]
    settings: dict[str, Any] = {
        "checkpoint": checkpoint,
        "checkpoint_sha256": embeddings.made_by or None,
        "data": None if options.data is None else redacted(options.data),
        "crops": embeddings.crops,
        "crop_feature_frames": embeddings.crop_feature_frames or None,
        "margin": options.margin,
        "drop_duplicates": options.drop_duplicates,
    }
    rows = dropped(found, labels, duplicates=options.drop_duplicates)
    told = document(found, keys, labels, names, settings, rows)
    write_audit(options.out, found, keys, rows, told)
    print(summary(told, options.out))
    if (warning := doubt(told)) is not None:
        print(f"eval audit: warning: {warning}", file=sys.stderr)


def _speakers(data: str | None, embeddings: Embeddings) -> tuple[str, ...]:
    source = None
    if data is not None:
        source = open_utterances(data)
        require_all(source, embeddings.names, "the embeddings")
    speakers = speakers_in(embeddings, embeddings.names, source)
    if speakers is None:
        raise UserError(
            f"{embeddings.names[0] if embeddings.names else 'the embeddings'}: no folder in its name tells "
            "the speaker: give --data the shards, whose labels do"
        )
    return speakers


def summary(told: dict[str, Any], out: str) -> str:
    """What the command prints."""
    nobody = sum(one["kind"] == "nobody" for one in told["suspects"])
    utterances = counted(told["utterances"], "utterance", ",")
    speakers = counted(told["speakers"], "speaker", ",")
    pairs = counted(told["duplicate_speakers"], "pair", ",")
    gone = counted(told["dropped"], "utterance", ",")
    lines = (
        f"{utterances} of {speakers}: {told['suspect_utterances']:,} suspect ({nobody:,} like nobody in the "
        f"set), {pairs} of speakers who may be one",
        f"  {storage.join(out, 'drop.txt')}: {gone}, for make-shards pack --drop and data.exclude",
        f"  report: {storage.join(out, 'audit.html')}",
    )
    return "\n".join(map(shown, lines))
