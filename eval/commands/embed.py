"""Writes the embeddings of any audio: shards, a folder, or a list of files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from eval.audio_files import everything
from eval.commands.options import add_checkpoint, add_machine, add_protocol, protocol_of
from eval.embed_all import embed_utterances
from eval.embedding_files import check_file, check_names, write_embeddings
from eval.kept import Kept
from eval.processes import Process, joined, parsed, quietly
from eval.protocol import Protocol
from eval.ranks import together
from eval.subject import check_fit, open_subject
from eval.utterances import require_all
from shard_tools.errors import exit_status
from shard_tools.options import place
from shard_tools.text import counted, shown
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  # every utterance of a set of shards, on eight GPUs
  torchrun --standalone --nproc-per-node 8 -m eval embed runs/first --data s3://bucket/voxceleb2 \\
      --out vox2.npz

  # a folder of recordings, of any rate and codec, for Kaldi: mine.ark and mine.scp
  python -m eval embed runs/first --data recordings --out mine.ark

  # a list of files, as Kaldi's wav.scp: a line "NAME PATH" or "PATH" each
  python -m eval embed model.onnx --data wav.scp --out mine.npz

Started again after a kill it goes on: what was done lies in OUT.parts until OUT is there.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    return exit_status(quietly(lambda: _embed(parsed(parser(), argv))), program="eval embed")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m eval embed",
        description="Write the embeddings of all utterances of shards, a folder, or a list of files.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint(made)
    made.add_argument(
        "--data",
        type=place,
        metavar="URL_OR_FOLDER_OR_LIST",
        required=True,
        help="shards (a folder or URL with manifest.json); or a local folder of audio files; or a file of "
        "lines 'PATH' or 'NAME PATH', whose paths may be URLs",
    )
    made.add_argument(
        "--out",
        type=place,
        metavar="FILE",
        required=True,
        help="FILE.npz, which python -m eval --embeddings takes, or FILE.ark for Kaldi, with FILE.scp",
    )
    add_protocol(made, "default: whole")
    add_machine(made)
    add_version(made)
    return made


def _embed(options: argparse.Namespace) -> None:
    check_file(options.out, "--out")
    with joined(options.device) as process:
        subject = open_subject(options.checkpoint, options.which, process.say)
        protocol = protocol_of(options, Protocol())
        source, names = everything(options.data, process.say)
        check_names(names, options.out, "--out")
        require_all(source, names, options.data)
        network = subject.network(process.device)
        check_fit(network, protocol)
        kept = Kept(f"{options.out}.parts", subject.digest, protocol, process.say)
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

        def write(process: Process = process) -> None:
            if process.leads:
                write_embeddings(embeddings, options.out)
                kept.clear()

        together(write)
        if process.leads:
            vectors, size = embeddings.vectors.shape[1:]
            each = f"{size} numbers" if vectors == 1 else f"{vectors} x {size} numbers"
            print(
                f"{shown(options.out)}: {counted(len(names), 'utterance', ',')}, {each} each, {protocol.text}"
            )
