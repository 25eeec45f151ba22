"""Which speaker of a folder a recording is of."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import numpy as np

from eval.commands.options import add_checkpoint, add_protocol, protocol_of
from eval.devices import device_of
from eval.encoder import SpeakerEncoder
from eval.processes import Process
from eval.protocol import Protocol
from eval.speakers import numbered
from eval.subject import open_subject
from shard_tools.audio.convert import EXTENSIONS
from shard_tools.errors import UserError, exit_status
from shard_tools.options import local_path, place, whole_number
from shard_tools.pack.walk import audio_files
from shard_tools.text import counted, shown
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  python -m eval identify runs/first people a.wav      # people/SPEAKER/…/*.wav, or people/SPEAKER.wav
  python -m eval identify runs/first people *.wav --top 1
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    return exit_status(lambda: _identify(parser().parse_args(argv)), program="eval identify")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m eval identify",
        description="Compare recordings with every speaker of a folder, each the mean of its recordings' "
        "embeddings, and name the most alike.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint(made)
    made.add_argument(
        "folder", type=local_path, metavar="FOLDER", help="of the speakers: a folder of recordings each"
    )
    made.add_argument(
        "recordings", type=place, metavar="AUDIO", nargs="+", help="any audio that can be decoded"
    )
    made.add_argument(
        "--top", type=whole_number(1, 1000), metavar="K", default=5, help="speakers to name (default 5)"
    )
    add_protocol(made, "default: whole")
    made.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto (default): a GPU if there is one",
    )
    add_version(made)
    return made


def _identify(options: argparse.Namespace) -> None:
    files = enrolment(options.folder)
    device = device_of(options.device)
    subject = open_subject(options.checkpoint, options.which, Process(0, 1, device).say)
    protocol = protocol_of(options, Protocol())
    encoder = SpeakerEncoder(subject.network(device), subject, device, protocol)
    asked = list(dict.fromkeys(options.recordings))
    heard = _units(encoder.embeddings(asked).vectors)  # first, as a mistake in them is soon found
    speakers = [speaker for speaker, _ in files]
    known = _units(encoder.embeddings([path for _, path in files]).vectors)
    names = list(dict.fromkeys(speakers))
    means = np.zeros((len(names), known.shape[1]))
    np.add.at(means, numbered(speakers), known)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    own = {os.path.realpath(path): speaker for speaker, path in files}
    print(f"{counted(len(names), 'speaker')}, {counted(len(files), 'recording')}; cosine, {protocol.text}")
    for recording, unit in zip(asked, heard, strict=True):
        scores = means @ unit
        among = own.get(os.path.realpath(recording))
        print(
            shown(
                recording
                if among is None
                else f"{recording} (one of {among}'s own recordings: its score is too high)"
            )
        )
        for row in np.argsort(-scores, kind="stable")[: options.top]:
            print(f"  {scores[row]:7.4f}  {shown(names[row])}")


def enrolment(folder: str) -> list[tuple[str, str]]:
    """(speaker, path) of every recording below `folder`: speakers are its folders, and files lying in it.

    Raises UserError where there are none.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; expected FOLDER/SPEAKER/…, a folder of recordings each")
    paths, problems = audio_files(folder, EXTENSIONS)
    if problems:
        raise UserError(f"{folder}: {counted(len(problems), 'problem')}, first {problems[0]}")
    if not paths:
        raise UserError(f"{folder}: no audio files below this folder; expected FOLDER/SPEAKER/…")
    return [
        (path.split("/", 1)[0] if "/" in path else os.path.splitext(path)[0], os.path.join(folder, path))
        for path in paths
    ]


def _units(vectors: np.ndarray) -> np.ndarray:
    """One vector of length 1 each, float64 (N, D): the mean of an utterance's unit vectors."""
    units = vectors.astype(np.float64)
    units /= np.maximum(np.linalg.norm(units, axis=2, keepdims=True), 1e-12)
    means = units.mean(axis=1)
    result: np.ndarray = means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return result
