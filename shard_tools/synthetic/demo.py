"""`make demo`: a corpus to shards, training and evaluation, by the command lines that a user would type.

Everything but the split of your own corpus is a subprocess, printed before it
runs. The corpus is made once and kept; shards, training and evaluations are made
afresh each time:

    FOLDER/corpus                       synthetic speech, noise and rooms (with --corpus: noise and rooms)
    FOLDER/lists                        with --corpus: its train list and trials
    FOLDER/shards/{train,test,noise,rir}
    FOLDER/train                        the run: checkpoints, metrics.jsonl, TensorBoard events
    FOLDER/eval-before, FOLDER/eval-after
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shard_tools import storage
from shard_tools.errors import UserError, exit_status
from shard_tools.options import local_folder, whole_number
from shard_tools.pack.walk import audio_files
from shard_tools.recipes import recipes
from shard_tools.synthetic.corpus import draw_trials
from shard_tools.synthetic.voices import generator
from shard_tools.text import counted
from shard_tools.version import add_version
from shard_tools.workers import processors

CONFIG = "configs/demo.yaml"
BATCH_SPEAKERS = 64  # as in the config; smaller corpora get smaller batches
LEAST_HELD_OUT = 5
LEAST_TRAINED = 4
MOST_HELD_OUT = 40
TRIALS_OF_EACH_KIND = 1000
PROCESSES = 2
_TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES), "-m", "train"]


@dataclass(frozen=True)
class Split:
    """A corpus split by speaker; files by speaker, relative to the corpus, sorted."""

    train: dict[str, list[str]]
    test: dict[str, list[str]]


@dataclass
class Stages:
    """Runs the stages and keeps what they took; list of (name, seconds)."""

    taken: list[tuple[str, float]] = field(default_factory=list)

    def run(self, name: str, *commands: Sequence[str]) -> None:
        """Run `python ARGUMENTS…` for each of the commands. Raises UserError when one fails."""
        start = time.monotonic()
        threads = str(max(1, processors() // PROCESSES))
        for command in commands:
            print(f"\n$ {shown(command)}", flush=True)
            # OMP_NUM_THREADS: else each process takes all processors, and torchrun warns about it.
            done = subprocess.run(
                [sys.executable, *command], check=False, env={"OMP_NUM_THREADS": threads, **os.environ}
            )
            if done.returncode:
                raise UserError(f"{name} ended with status {done.returncode}; its messages are above")
        self.taken.append((name, time.monotonic() - start))


def shown(command: Sequence[str]) -> str:
    """The command as a user would type it."""
    text = shlex.join(["python", *command])
    for module, name in (("torch.distributed.run", "torchrun"), ("shard_tools.cli", "make-shards")):
        text = text.replace(f"python -m {module}", name)
    return text


def find_files(corpus: Path) -> dict[str, list[str]]:
    """CORPUS/SPEAKER/…/*.wav|flac by speaker, relative to the corpus, sorted. Raises UserError."""
    if not corpus.is_dir():
        raise UserError(f"{corpus}: no such folder; CORPUS is a folder of SPEAKER/…/*.wav or *.flac files")
    paths, problems = audio_files(str(corpus))
    if problems:
        raise UserError(f"{corpus}: {problems[0]}")
    found: dict[str, list[str]] = {}
    for path in paths:
        speaker, deeper, _ = path.partition("/")
        if deeper:
            found.setdefault(speaker, []).append(path)
    if not found:
        raise UserError(f"{corpus}: no .wav or .flac file in a speaker's folder; expected SPEAKER/…/*.wav")
    return found


def split_speakers(files: Mapping[str, Sequence[str]]) -> Split:
    """Hold out a tenth of the speakers, 5 to 40, for the trials; the same ones for the same files.

    Speakers with a single utterance cannot be held out: they make no target trial.
    Raises UserError when too few are left on either side.
    """
    able = sorted(speaker for speaker, paths in files.items() if len(paths) > 1)
    held_out = min(max(LEAST_HELD_OUT, len(files) // 10), MOST_HELD_OUT)
    if len(able) < held_out or len(files) - held_out < LEAST_TRAINED:
        raise UserError(
            f"the corpus has {counted(len(files), 'speaker')}, {len(able)} of them with two utterances or"
            f" more; it needs {held_out + LEAST_TRAINED}, and {held_out} of them with two, to hold out for"
            " trials"
        )
    chosen = set(generator(0, "held out").permutation(able)[:held_out].tolist())
    return Split(
        train={speaker: list(paths) for speaker, paths in files.items() if speaker not in chosen},
        test={speaker: list(paths) for speaker, paths in files.items() if speaker in chosen},
    )


def batch_speakers(speakers: int) -> int:
    """Speakers in a batch: all processes share them evenly, and an epoch has at least two batches' worth."""
    return max(PROCESSES, min(BATCH_SPEAKERS, speakers // 2 // PROCESSES * PROCESSES))


def write_lists(split: Split, folder: Path) -> None:
    """FOLDER/{train_list,test_list}.txt "speaker path" and FOLDER/veri_test.txt "label path path"."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in (("train_list.txt", split.train), ("test_list.txt", split.test)):
        lines = [f"{speaker} {path}\n" for speaker, paths in files.items() for path in paths]
        (folder / name).write_text("".join(lines))
    trials = draw_trials(split.test, TRIALS_OF_EACH_KIND, seed=0)
    (folder / "veri_test.txt").write_text("".join(line + "\n" for line in trials))


def demo(folder: Path, corpus: Path | None, *, speakers: int, utterances: int, steps: int | None) -> None:
    """All stages. speakers, utterances: of the synthetic corpus; steps: of training (None: the config's)."""
    stages, config = Stages(), CONFIG
    if not Path(CONFIG).is_file():  # away from the project's folder
        config = str(folder / Path(CONFIG).name)
        storage.publish_bytes(config, recipes()[Path(CONFIG).name])
    sounds, shards, run = folder / "corpus", folder / "shards", folder / "train"
    for old in (shards, run, folder / "eval-before", folder / "eval-after"):
        shutil.rmtree(old, ignore_errors=True)

    synthesise = ["-m", "shard_tools.synthetic", str(sounds), "--replace"]
    if corpus is None:
        test_speakers = max(2, speakers // 10)
        synthesise += ["--speakers", str(speakers), "--test-speakers", str(test_speakers)]
        synthesise += ["--utterances", str(utterances)]
        trials, trained = sounds / "lists" / "veri_test.txt", speakers
        packs = [pack_command(sounds / part, shards / part) for part in ("train", "test")]
    else:
        split = split_speakers(find_files(corpus))
        lists, trained = folder / "lists", len(split.train)
        trials = lists / "veri_test.txt"
        write_lists(split, lists)
        print(f"{corpus}: {counted(trained, 'speaker')} to train on, {len(split.test)} others for {trials}")
        synthesise += ["--speakers", "0", "--test-speakers", "0"]
        packs = [
            [*pack_command(corpus, shards / part), "--list", str(lists / f"{part}_list.txt"), "--convert"]
            for part in ("train", "test")
        ]
    packs += [pack_command(sounds / part, shards / part) for part in ("noise", "rir")]
    stages.run("corpus", synthesise)
    stages.run("shards", *packs)

    train = [*_TORCHRUN, "--config", config, *overrides(run, shards, trained)]
    stages.run("random weights", [*train, "--train.steps", "0"])
    before = evaluate(stages, "evaluation before", run, folder / "eval-before", shards, trials)
    stages.run("training", train if steps is None else [*train, "--train.steps", str(steps)])
    after = evaluate(stages, "evaluation after", run, folder / "eval-after", shards, trials)
    print(f"\n{table(before, after, stages.taken)}\n\nreport: {folder / 'eval-after' / 'report.html'}")


def pack_command(root: Path, url: Path) -> list[str]:
    workers = str(processors())
    return ["-m", "shard_tools.cli", "pack", str(root), str(url), "--workers", workers]


def overrides(run: Path, shards: Path, speakers: int) -> list[str]:
    """Options that point the config at this demo's folders and fit its batch to the corpus."""
    noise = str(shards / "noise")
    options = {
        "run.folder": str(run),
        "data.url": str(shards / "train"),
        "batch.speakers": str(batch_speakers(speakers)),
        "augment.reverberation.url": str(shards / "rir"),
        **{f"augment.{kind}.url": noise for kind in ("music", "babble", "noise")},
    }
    return [word for key, value in options.items() for word in (f"--{key}", value)]


def evaluate(stages: Stages, name: str, run: Path, out: Path, shards: Path, trials: Path) -> dict[str, Any]:
    """Evaluate the run's newest checkpoint into `out`; what its metrics.json says."""
    checkpoint = max((run / "checkpoints").glob("step-*.pt"))
    command = ["-m", "eval", str(checkpoint), "--trials", str(trials), "--data", str(shards / "test")]
    stages.run(name, [*command, "--out", str(out), "--device", "cpu"])
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def table(before: Mapping[str, Any], after: Mapping[str, Any], taken: Sequence[tuple[str, float]]) -> str:
    """What the demo prints at its end."""
    lines = [
        f"EER with random weights {before['eer']:6.2f} %",
        f"EER after {counted(after['step'], 'step')}    {after['eer']:6.2f} %",
        f"on {counted(after['trials'], 'trial')} of {counted(after['utterances'], 'utterance')} of speakers"
        " never trained on",
        "",
        *(f"{name:<18} {seconds:6.1f} s" for name, seconds in taken),
        f"{'all':<18} {sum(seconds for _, seconds in taken):6.1f} s",
    ]
    return "\n".join(lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m shard_tools.synthetic.demo",
        description="A corpus to shards, training, an evaluation before and after: minutes on a CPU.",
        epilog="Examples:\n"
        "  python -m shard_tools.synthetic.demo\n"
        "  python -m shard_tools.synthetic.demo --corpus DATA  # DATA/SPEAKER/.../*.wav or *.flac\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--corpus", type=local_folder, metavar="FOLDER", help="speech of yours: SPEAKER/.../*.wav|flac"
    )
    parser.add_argument(
        "--folder", type=local_folder, default=Path("runs/demo"), help="where (default runs/demo)"
    )
    number = whole_number(1, 10**9)
    parser.add_argument(
        "--speakers",
        type=number,
        default=200,
        metavar="N",
        help="synthetic speakers to train on (default 200)",
    )
    parser.add_argument(
        "--utterances", type=number, default=10, metavar="N", help="utterances of each (default 10)"
    )
    parser.add_argument("--steps", type=number, metavar="N", help=f"training steps (default: of {CONFIG})")
    add_version(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""

    def command() -> None:
        options = _parser().parse_args(argv)
        demo(
            options.folder,
            options.corpus,
            speakers=options.speakers,
            utterances=options.utterances,
            steps=options.steps,
        )

    return exit_status(command, program="demo")


if __name__ == "__main__":
    sys.exit(main())
