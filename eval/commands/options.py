"""Options that several subcommands have, and what they mean together."""

from __future__ import annotations

import argparse

from eval.protocol import Kind, Protocol
from shard_tools.errors import UserError
from shard_tools.options import place, whole_number

# Of the crops of one utterance together: 1,000 s of audio, 32 MB, of which some dozens are in memory at once.
CROP_FRAMES_OF_AN_UTTERANCE = 100_000
_CROP_FRAMES = 400


def add_checkpoint(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """CHECKPOINT and --which."""
    parser.add_argument(
        "checkpoint",
        type=place,
        metavar="CHECKPOINT",
        nargs="?" if optional else None,
        help="a checkpoint file, a folder of checkpoints, the folder of a run, or an ONNX model "
        "(MODEL.onnx): path or URL",
    )
    parser.add_argument(
        "--which",
        choices=("best", "newest"),
        help="of a folder's checkpoints: best (default) has the lowest validation EER; where none is noted, "
        "the newest is taken",
    )


def add_protocol(parser: argparse.ArgumentParser, default: str) -> None:
    """--protocol and its numbers; default: what is done without them, in words."""
    parser.add_argument(
        "--protocol",
        choices=("whole", "crops", "mean", "windows"),
        help="whole utterances; crops, each with an embedding of its own; the mean of the crops' embeddings; "
        f"the mean of those of sliding windows ({default}; with --crops crops, with --hop windows)",
    )
    parser.add_argument(
        "--crops",
        type=whole_number(0, 1000),
        metavar="N",
        help="evenly spaced crops of each utterance; 0 embeds it whole",
    )
    parser.add_argument(
        "--crop-frames",
        type=whole_number(1, CROP_FRAMES_OF_AN_UTTERANCE),
        metavar="F",
        help="feature frames of 10 ms in a crop or window, which has F*160+240 audio frames "
        f"(default: {_CROP_FRAMES})",
    )
    parser.add_argument(
        "--hop",
        type=whole_number(1, CROP_FRAMES_OF_AN_UTTERANCE),
        metavar="H",
        help="feature frames from the start of a window to that of the next",
    )


def protocol_of(options: argparse.Namespace, own: Protocol) -> Protocol:
    """What the options of add_protocol say; `own` where they say nothing. Raises UserError, naming one."""
    said = any(value is not None for value in (options.crops, options.crop_frames, options.hop))
    kind: Kind | None = options.protocol
    if kind is None:
        if not said:
            return own
        kind = "windows" if options.hop else "whole" if options.crops == 0 else "crops"
        if kind == "crops" and options.crops is None and own.kind != "crops":
            raise UserError(f"--crop-frames {options.crop_frames}: give --crops N, or --hop H, too")
    crops = own.crops if options.crops is None and own.kind == "crops" else options.crops
    frames = options.crop_frames or own.crop_frames or _CROP_FRAMES
    if kind == "whole":
        for name in ("crops", "hop", "crop_frames"):
            if getattr(options, name):
                raise UserError(
                    f"--protocol whole: takes no --{name.replace('_', '-')}; give --protocol crops, mean or "
                    "windows with it"
                )
        return Protocol()
    if kind == "windows":
        if not options.hop or options.crops:
            raise UserError("--protocol windows: takes --crop-frames F and --hop H, and no --crops")
        return Protocol("windows", crop_frames=frames, hop=options.hop)
    if not crops or options.hop:
        raise UserError(
            f"--protocol {kind}: takes --crops N, of 1 or more, and --crop-frames F, and no --hop"
        )
    if crops * frames > CROP_FRAMES_OF_AN_UTTERANCE:
        raise UserError(
            f"--crops {crops} of --crop-frames {frames} are {crops * frames} feature frames of "
            f"each utterance; {CROP_FRAMES_OF_AN_UTTERANCE} (17 minutes) are allowed: lower one of them"
        )
    return Protocol(kind, crops, frames)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """--device, --batch-utterances and --threads."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto (default): a GPU if there is one",
    )
    parser.add_argument(
        "--batch-utterances",
        type=whole_number(1, 4096),
        default=16,
        metavar="B",
        help="utterances to a batch, in which pieces of equal length are embedded at once (default 16)",
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1, 256),
        default=4,
        metavar="N",
        help="threads that read ahead (default 4)",
    )
