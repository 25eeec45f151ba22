"""The command `python -m models`: list, convert, export."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from eval.export.converting import convert_file
from eval.export.exporting import write_exports
from eval.export.listing import network_page, network_table
from models.registry import ModelError, network_names
from shard_tools.errors import UserError, exit_status
from shard_tools.options import local_path, place
from shard_tools.version import add_version
from shard_tools.yaml_file import check_yaml_value

_EXAMPLES = """\
Examples:
  python -m models list
  python -m models list ecapa_tdnn
  python -m models convert baseline_v2_ap.model --network resnetse34v2 --out v2.pt
  python -m models export runs/demo --onnx demo.onnx
"""

_LIST = """\
The networks there are: their weights at default options, multiply-accumulates for a second of audio, and what
they are; with NAME all that is said of one of them, its options among it.
"""

_CONVERT = """\
Turn a checkpoint that somebody else's program has written into one that eval takes. It may come from
the VoxCeleb trainer (all three of its forms), Jungjee/RawNet, wespeaker, 3D-Speaker, SpeechBrain,
IDRnD/ReDimNet or PalabraAI/redimnet2. Nothing in the file is executed. Sizes are read from the file, of the
last two all options; the others must be those that the network was trained with, as whose features.
"""

_CONVERT_EXAMPLES = """\
Examples:
  # a Fast ResNet-34 of the VoxCeleb trainer, and its error rates
  python -m models convert baseline_lite_ap.model --network resnetse34l --out lite.pt
  python -m eval lite.pt --trials veri_test.txt --data /data/voxceleb1 --out eval/lite

  # wespeaker's ECAPA-TDNN, of 512 or 1024 channels
  python -m models convert avg_model.pt --network ecapa_tdnn --out ecapa.pt

  # 3D-Speaker's CAM++, whose features are not wespeaker's
  python -m models convert campplus.bin --network campplus --options '{features: 3d-speaker}' --out cam.pt

  # ReDimNet's own files know their options
  python -m models convert b2-vox2-ft_lm.pt --network redimnet --out b2.pt
"""

_EXPORT = """\
Write a checkpoint's network, its front-end inside, as a file that runs without this project: from float32
audio (batch, samples) at 16 kHz in [-1, 1) to embeddings (batch, D), for any batch and length. What is
written is run on audio of five lengths and compared with the network before the file appears.
"""

_EXPORT_EXAMPLES = """\
Examples:
  python -m models export runs/demo --onnx demo.onnx
  python -m models export runs/demo/checkpoints/step-00002000.pt --torch-export demo.pt2

  pip install 'voxshard[onnx]' brings what --onnx needs.
"""


def main(argv: list[str] | None = None) -> int:
    """Entry point of `python -m models`; returns the exit status."""

    def command() -> int:
        args = _parser().parse_args(argv)
        status: int = args.command(args)
        return status

    return exit_status(command, program="models")


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m models",
        description="The networks there are; others' weights to ours; ours to ONNX and torch.export.",
        epilog=_EXAMPLES,
        formatter_class=raw,
    )
    add_version(parser)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], **texts: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(name, formatter_class=raw, **texts)
        added.set_defaults(command=command)
        return added

    sub = add("list", _list, help="the networks there are", description=_LIST)
    sub.add_argument("name", metavar="NAME", nargs="?", choices=network_names(), help="of one network")

    sub = add(
        "convert",
        _convert,
        help="others' weights to a checkpoint of ours",
        description=_CONVERT,
        epilog=_CONVERT_EXAMPLES,
    )
    sub.add_argument("file", metavar="FILE", type=place, help="the checkpoint: path or URL")
    sub.add_argument(
        "--network", metavar="NAME", required=True, choices=network_names(), help="what it is here"
    )
    sub.add_argument(
        "--options",
        metavar="YAML",
        type=_options,
        default={},
        help="options that the file does not say, if not defaults, as in '{features: 3d-speaker}'",
    )
    sub.add_argument("--out", metavar="OURS", required=True, type=place, help="file to write: path or URL")

    sub = add(
        "export",
        _export,
        help="a checkpoint to ONNX or torch.export",
        description=_EXPORT,
        epilog=_EXPORT_EXAMPLES,
    )
    sub.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        type=place,
        help="a checkpoint file, a folder of checkpoints, or the folder of a run: path or URL",
    )
    sub.add_argument("--onnx", metavar="FILE", type=local_path, help="write ONNX")
    sub.add_argument(
        "--torch-export", metavar="FILE", type=local_path, help="write what torch.export.load reads"
    )
    return parser


def _options(text: str) -> dict[str, Any]:
    try:
        check_yaml_value(text, "--options")
        value = yaml.safe_load(text)
    except (UserError, yaml.YAMLError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"not YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no mapping; write it as '{{channels: 1024}}'")
    return value


def _list(args: argparse.Namespace) -> int:
    print(network_page(args.name) if args.name else network_table(), end="")
    return 0


def _convert(args: argparse.Namespace) -> int:
    try:
        for line in convert_file(args.file, args.network, args.options, args.out):
            print(line)
    except ModelError as error:
        raise UserError(f"{args.file}: {error}") from None
    return 0


def _export(args: argparse.Namespace) -> int:
    if args.onnx is None and args.torch_export is None:
        raise UserError("nothing to write: give --onnx FILE, --torch-export FILE or both")
    onnx, torch_export = (path and Path(path) for path in (args.onnx, args.torch_export))
    for line in write_exports(args.checkpoint, onnx=onnx, torch_export=torch_export):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
