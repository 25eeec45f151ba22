"""Whether two recordings are of one speaker."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from eval.backend import Backend
from eval.calibration import load_calibration
from eval.checkpoint.file import checkpoint_name, read_rates
from eval.commands.options import add_checkpoint, add_protocol, protocol_of
from eval.devices import device_of
from eval.encoder import SpeakerEncoder
from eval.evaluate import evaluate_embeddings
from eval.processes import Process
from eval.scoring import build_scorer
from eval.subject import Subject, open_subject
from eval.trials import Trials
from shard_tools.errors import UserError, exit_status
from shard_tools.options import place
from shard_tools.text import shown
from shard_tools.version import add_version

_EXAMPLES = """\
Examples:
  python -m eval verify runs/first a.wav b.m4a
  python -m eval verify step-00002000.pt a.wav b.wav --crops 10 --crop-frames 400

A decision needs a threshold: of a --calibration of this checkpoint's scores, which gives a probability too,
or of the checkpoint's own validation (step-XXXXXXXX.json beside it), which counts for the protocol of that
validation. Without one the score is all that can be said.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's); returns the exit status."""
    return exit_status(lambda: _verify(parser().parse_args(argv)), program="eval verify")


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(
        prog="python -m eval verify",
        description="Score whether two recordings are of one speaker, and decide where a threshold is known.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_checkpoint(made)
    made.add_argument("left", type=place, metavar="AUDIO", help="a recording: any audio that can be decoded")
    made.add_argument("right", type=place, metavar="AUDIO", help="the other one")
    add_protocol(made, "default: as in the run's validation, whole without one")
    made.add_argument(
        "--calibration",
        type=place,
        metavar="FILE",
        help="a calibration (see python -m eval calibrate --help): gives a probability, and decides",
    )
    made.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="auto (default): a GPU if there is one",
    )
    add_version(made)
    return made


def _verify(options: argparse.Namespace) -> None:
    if options.left == options.right:
        raise UserError(f"{options.left} is compared with itself: give two recordings")
    calibration = None if options.calibration is None else load_calibration(options.calibration)
    device = device_of(options.device)
    subject = open_subject(options.checkpoint, options.which, Process(0, 1, device).say)
    protocol = protocol_of(options, subject.own_protocol())
    encoder = SpeakerEncoder(subject.network(device), subject, device, protocol)
    embeddings = encoder.embeddings([options.left, options.right])
    trial = Trials(
        np.array([-1], np.int8),
        np.array([0]),
        np.array([1]),
        list(embeddings.names),
        "the two recordings",
        "",
    )
    plain = evaluate_embeddings(embeddings, trial)
    print(f"score        {plain.scores[0]:.4f} (cosine, {protocol.text})")
    if calibration is None:
        print(_decision(subject, protocol == subject.own_protocol(), float(plain.scores[0])))
        return
    backend = Backend("cosine", build_scorer("cosine"), calibration=calibration)
    ratio = float(evaluate_embeddings(embeddings, trial, backend=backend).scores[0])
    probability = float(calibration.probability(ratio))
    which = "one speaker" if ratio >= calibration.threshold else "two speakers"
    print(f"log ratio    {ratio:.4f} nats ({shown(options.calibration)})")
    print(f"probability  {probability:.4f} of one speaker, where {calibration.p_target:g} of trials are")
    print(f"decision     {which} (threshold {calibration.threshold:.4f}, p_target {calibration.point.name})")


def _decision(subject: Subject, as_validated: bool, score: float) -> str:
    """A line: what the validation's threshold says, or why there is none."""
    folder, _, name = subject.url.rpartition("/")
    rates = None
    if subject.step is not None and name == checkpoint_name(subject.step):
        rates = read_rates(folder or ".", subject.step)
    if rates is None or rates.eer_threshold is None:
        return (
            "decision     none: no validation of this checkpoint says from which score on it is one speaker"
        )
    if not as_validated:
        return (
            "decision     none: the threshold of the checkpoint's validation is for recordings cut as there"
        )
    which = "one speaker" if score >= rates.eer_threshold else "two speakers"
    return (
        f"decision     {which} (threshold {rates.eer_threshold:.4f}: the checkpoint's EER, {rates.eer:.2f} "
        f"%, on {shown(rates.trial_list)})"
    )
