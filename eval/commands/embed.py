"""Writes the embeddings of any audio: shards, a folder, or a list of files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from eval.commands.embedded import embed_set
from eval.commands.options import add_checkpoint, add_machine, add_protocol
from eval.embedding_files import check_file, write_embeddings
from eval.processes import Process, joined, parsed, quietly
from eval.ranks import together
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
        found = embed_set(options, process, f"{options.out}.parts", options.out, "--out")
        embeddings = found.embeddings

        def write(process: Process = process) -> None:
            if process.leads:
                write_embeddings(embeddings, options.out)
                found.kept.clear()

        together(write)
        if process.leads:
            vectors, size = embeddings.vectors.shape[1:]
            each = f"{size} numbers" if vectors == 1 else f"{vectors} x {size} numbers"
            print(
                f"{shown(options.out)}: {counted(len(embeddings), 'utterance', ',')}, {each} each, "
                f"{found.protocol.text}"
            )
