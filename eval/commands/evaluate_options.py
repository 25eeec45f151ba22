"""The options of `python -m eval CHECKPOINT`."""

from __future__ import annotations

import argparse

from eval.commands import COMMANDS
from eval.commands.backend_options import add_backend, add_figures
from eval.commands.options import add_checkpoint, add_machine, add_protocol
from eval.embedding_files import check_file
from shard_tools.errors import UserError
from shard_tools.options import place
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  # a run's best checkpoint on the run's own validation trials, into runs/first/eval/step-XXXXXXXX
  python -m eval runs/first

  # whole utterances, straight from shards, on four GPUs
  torchrun --standalone --nproc-per-node 4 -m eval runs/demo/checkpoints/step-00002000.pt \\
      --trials veri_test.txt --data s3://bucket/vox1-test --out runs/demo/eval

  # the VoxCeleb trainer's protocol: 10 crops of 4 s, mean pairwise distance
  python -m eval step-00002000.pt --trials veri_test2.txt --data /data/voxceleb1 --out eval \\
      --crops 10 --crop-frames 400 --scoring euclidean

  # three lists, whose utterances are embedded once: into eval/veri_test2, eval/list_test_hard2, …
  python -m eval step-00002000.pt --trials veri_test2.txt list_test_hard2.txt list_test_all2.txt \\
      --data s3://bucket/voxceleb1 --out eval

  # embeddings that were made before (python -m eval embed), without a network
  python -m eval --embeddings vox1.npz --trials veri_test2.txt --out eval

OUT then holds metrics.json, scores.txt (score path path), trials.npz, det.png and report.html; a list
without labels (lines "path path") has no error rates, and no det.png.
"""


def _subcommands() -> str:
    lines = "".join(f"  {name:<10} {what}\n" for name, what in COMMANDS.items())
    return f"In the place of CHECKPOINT (a folder of such a name is written ./NAME):\n{lines}"


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m eval",
        description="Embed the utterances of trial lists, score the trials, and report EER and minDCF.",
        epilog=f"{_EXAMPLES}\n{_subcommands()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint(made, optional=True)
    made.add_argument(
        "--trials",
        type=place,
        metavar="FILE",
        nargs="+",
        help="lists of lines 'label path path', label 1 or 0, or 'path path' (default: the run's "
        "validation.trials)",
    )
    made.add_argument(
        "--data",
        type=place,
        metavar="URL_OR_FOLDER",
        nargs="+",
        help="shards (a folder or URL with manifest.json), or a folder of 16 kHz mono WAV or FLAC files "
        "from which the lists' paths start; of several, the first that has an utterance (default: the run's "
        "validation.data)",
    )
    made.add_argument(
        "--embeddings",
        type=place,
        metavar="FILE",
        help="take the utterances' embeddings from here (.npz, .ark or .scp), in place of CHECKPOINT "
        "and --data",
    )
    made.add_argument(
        "--out",
        type=place,
        metavar="FOLDER",
        help="where the results go, those of several lists in folders of their names; made if absent "
        "(default, for a run: RUN/eval/step-XXXXXXXX)",
    )
    made.add_argument(
        "--save-embeddings",
        type=place,
        metavar="FILE",
        help="write the utterances' embeddings too: as .npz (names, vectors (utterances, crops, D), how they "
        "were cut), or FILE.ark for Kaldi, and FILE.scp beside it",
    )
    keep = made.add_mutually_exclusive_group()
    keep.add_argument(
        "--cache",
        type=place,
        metavar="FOLDER",
        help="where embeddings are kept while they are made, so that a killed evaluation goes on, and the "
        "next one of this checkpoint begins with them (default: OUT/embeddings)",
    )
    keep.add_argument("--no-cache", action="store_true", help="keep none")
    add_protocol(made, "default: whole, and as in the run's validation without --trials")
    add_backend(made)
    add_figures(made)
    made.add_argument(
        "--enrolment",
        type=place,
        metavar="URL_OR_FILE",
        help="identify the lists' utterances among the speakers of these (top 1, 5 and 10), by cosine with "
        "each one's mean: embeddings, or shards, a folder or a list, which are embedded first",
    )
    made.add_argument(
        "--meta",
        type=place,
        metavar="FILE",
        help="VoxCeleb's vox1_meta.csv: the report then has error rates by gender and nationality",
    )
    made.add_argument(
        "--audio-links",
        action="store_true",
        help="copy the worst errors' audio beside the report, which links to it",
    )
    add_machine(made)
    add_version(made)
    return made


def check_options(options: argparse.Namespace) -> None:
    """Refuse, before any work, options that would have no effect. Raises UserError, naming one."""
    if options.save_embeddings is not None:
        check_file(options.save_embeddings, "--save-embeddings")
    if options.embeddings is None:
        if options.checkpoint is None:
            raise UserError("give a CHECKPOINT, or --embeddings FILE")
        return
    if options.audio_links:
        raise UserError("--audio-links: the audio is not at hand with --embeddings; leave one of them out")
    if options.checkpoint is None and options.which is not None:
        raise UserError(f"--which {options.which} chooses among the checkpoints of a CHECKPOINT: give one")
    for name in ("data", "cache", "no_cache", "protocol", "crops", "crop_frames", "hop"):
        if getattr(options, name) not in (None, False):
            raise UserError(
                f"--{name.replace('_', '-')}: nothing is embedded with --embeddings; leave one of them out"
            )
