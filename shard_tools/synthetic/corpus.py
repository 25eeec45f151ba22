"""Write a small corpus of synthetic speech, noise and rooms, laid out as VoxCeleb is.

    FOLDER/train/SPEAKER/SESSION/N.wav      speakers to train on
    FOLDER/test/SPEAKER/SESSION/N.wav       other speakers, for the trials
    FOLDER/noise/{noise,music,speech}/N.wav to add, by category, as MUSAN is split
    FOLDER/rir/room/N.wav                   room impulse responses
    FOLDER/lists/train_list.txt             "speaker path" a line, paths under FOLDER/train
    FOLDER/lists/veri_test.txt              "label path path" a line, paths under FOLDER/test
    FOLDER/corpus.json                      the arguments that made it

Every file is 16 kHz mono 16-bit. The same arguments give the same bytes with
the same numpy and scipy, however many processes work. The folder appears under
its name only when complete; a second run with the same arguments does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile as sf
from tqdm import tqdm

from shard_tools.errors import UserError, exit_status
from shard_tools.options import MOST_WORKERS, local_folder, whole_number
from shard_tools.storage.errors import explain
from shard_tools.synthetic.voices import (
    NOISES,
    SAMPLE_RATE,
    Signal,
    draw_room,
    draw_voice,
    generator,
    music,
    record,
    speak,
)
from shard_tools.text import counted
from shard_tools.version import add_version
from shard_tools.workers import processors

_FORMAT = 1  # raise it when the same arguments come to mean other sounds
_SESSIONS_OF = 4  # utterances in a session folder
_BOUNDS = {
    "speakers": (0, 100_000),
    "test_speakers": (0, 1000),
    "utterances": (1, 10_000),
    "test_utterances": (2, 10_000),
    "noises": (1, 100_000),
    "rooms": (1, 100_000),
}
_ANY = 10**12
_MOST_PAIRED = 4096  # utterances among which trials are drawn: 8 million pairs


@dataclass(frozen=True)
class Corpus:
    """What to synthesise; 0 speakers make no folder and no list. `seconds`: median length of an utterance."""

    speakers: int = 200
    utterances: int = 10
    test_speakers: int = 20
    test_utterances: int = 12
    noises: int = 12
    rooms: int = 40
    seconds: float = 3.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _BOUNDS.items():
            value = getattr(self, name)
            if value < lowest:
                raise UserError(f"{name} is {value}; it must be at least {lowest}")
            if value > highest:
                raise UserError(f"{name} is {value}; it must be at most {highest}")
        if self.test_speakers == 1:
            raise UserError("test_speakers is 1; trials need two speakers (0: no trials)")
        if not 0.5 <= self.seconds <= 60:
            raise UserError(f"seconds is {self.seconds:g}; it must lie between 0.5 and 60")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed is {self.seed}; it must lie in [0, 2**32)")


def draw_trials(files: Mapping[str, Sequence[str]], limit: int, seed: int) -> list[str]:
    """Trial lines "label path path", as many targets (1) as non-targets (0), in a drawn order.

    files: paths by speaker, of which the first of each count where all have more than `_MOST_PAIRED`;
    limit: the most targets, and the most non-targets.
    The lines depend on nothing else. Raises UserError when there is not one of each.
    """
    random = generator(seed, "trials")
    files = _thinned(files)
    speakers = sorted(files)
    targets = [
        (left, right)
        for speaker in speakers
        for number, left in enumerate(files[speaker])
        for right in files[speaker][number + 1 :]
    ]
    if not targets or len(speakers) < 2:
        utterances = sum(map(len, files.values()))
        raise UserError(
            f"no trials can be drawn from {counted(utterances, 'utterance')} of"
            f" {counted(len(speakers), 'speaker')}; "
            "at least two speakers and two utterances of one of them are needed"
        )
    owner = np.repeat(np.arange(len(speakers)), [len(files[speaker]) for speaker in speakers])
    paths = [path for speaker in speakers for path in files[speaker]]
    left, right = np.triu_indices(len(paths), 1)
    different = np.flatnonzero(owner[left] != owner[right])
    count = min(limit, len(targets), len(different))
    lines = [f"1 {targets[t][0]} {targets[t][1]}" for t in random.choice(len(targets), count, replace=False)]
    lines += [f"0 {paths[left[p]]} {paths[right[p]]}" for p in random.choice(different, count, replace=False)]
    return [lines[n] for n in random.permutation(len(lines))]


def _thinned(files: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """So few utterances of each speaker that their pairs can be listed; all of them where that can be."""
    if sum(map(len, files.values())) <= _MOST_PAIRED:
        return files
    each = max(2, _MOST_PAIRED // len(files))
    return {speaker: paths[:each] for speaker, paths in files.items()}


def _write(path: Path, signal: Signal) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, np.round(signal * 32767).astype(np.int16), SAMPLE_RATE, subtype="PCM_16")


def _speaker_files(corpus: Corpus, part: str) -> dict[str, list[str]]:
    """Paths by speaker, relative to the part's folder, in order."""
    speakers, utterances, prefix = {
        "train": (corpus.speakers, corpus.utterances, "spk"),
        "test": (corpus.test_speakers, corpus.test_utterances, "new"),
    }[part]
    names = [f"{prefix}{number:04d}" for number in range(speakers)]
    return {
        name: [f"{name}/session{n // _SESSIONS_OF:02d}/{n % _SESSIONS_OF:05d}.wav" for n in range(utterances)]
        for name in names
    }


def _speaker(corpus: Corpus, folder: Path, part: str, speaker: str) -> None:
    """One speaker's files. Each utterance has words, length, room, microphone and level of its own."""
    voice = draw_voice(generator(corpus.seed, "voice", speaker))
    for path in _speaker_files(corpus, part)[speaker]:
        random = generator(corpus.seed, "utterance", path)
        frames = int(corpus.seconds * SAMPLE_RATE * np.exp(random.uniform(-0.35, 0.35)))
        _write(folder / part / path, record(speak(voice, random, frames), random))


def _noise(corpus: Corpus, folder: Path, category: str, number: int) -> None:
    """One file of a category, 4 to 8 s at about −22 dBFS."""
    random = generator(corpus.seed, "noise", category, number)
    frames = int(random.uniform(4, 8) * SAMPLE_RATE)
    if category == "music":
        signal = music(random, frames)
    elif category == "speech":  # the babble's speakers are nobody's: neither trained on nor tested
        signal = speak(draw_voice(random), random, frames)
    else:
        kinds = list(NOISES)
        signal = NOISES[kinds[number % len(kinds)]](random, frames)
    _write(folder / "noise" / category / f"{number:03d}.wav", np.clip(0.08 * signal, -1, 1))


def _room(corpus: Corpus, folder: Path, number: int) -> None:
    random = generator(corpus.seed, "room", number)
    _write(folder / "rir" / "room" / f"{number:03d}.wav", 0.9 * draw_room(random, random.uniform(0.15, 0.8)))


def _call(job: Callable[[], None]) -> None:
    job()


def noise_and_rooms(corpus: Corpus, folder: Path) -> list[Callable[[], None]]:
    """The jobs that write FOLDER/noise and FOLDER/rir; picklable, in any order, in any process."""
    counts = {"noise": 2 * corpus.noises, "music": corpus.noises, "speech": 3 * corpus.noises}
    jobs = [
        partial(_noise, corpus, folder, category, number)
        for category, count in counts.items()
        for number in range(count)
    ]
    return [*jobs, *(partial(_room, corpus, folder, number) for number in range(corpus.rooms))]


def synthesise(
    folder: Path, corpus: Corpus, *, workers: int | None = None, replace: bool = False, progress: bool = True
) -> bool:
    """Write `corpus` to `folder`; False if it was already there.

    workers: processes, by default as many as there are processors for us. replace:
    whether a corpus that other arguments made may go. Raises UserError when the
    folder holds anything else.
    """
    made_from = {"format": _FORMAT, **asdict(corpus)}
    record_file = folder / "corpus.json"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not record_file.is_file():
            raise UserError(f"{folder} exists and holds no synthetic corpus; name another folder")
        if record_file.read_text() == _as_json(made_from):
            return False
        if not replace:
            raise UserError(
                f"{folder} holds a corpus that other arguments made; add --replace, or name another folder"
            )
    partial_folder = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)

    jobs: list[Callable[[], None]] = [
        partial(_speaker, corpus, partial_folder, part, speaker)
        for part in ("train", "test")
        for speaker in _speaker_files(corpus, part)
    ]
    jobs += noise_and_rooms(corpus, partial_folder)
    workers = workers or processors()
    with tqdm(total=len(jobs), desc="synthesise", unit="job", disable=not progress) as bar:
        if workers == 1:
            for job in jobs:
                job()
                bar.update()
        else:
            with ProcessPoolExecutor(workers) as pool:
                for _ in pool.map(_call, jobs, chunksize=4):
                    bar.update()

    _write_lists(corpus, partial_folder / "lists")
    (partial_folder / "corpus.json").write_text(_as_json(made_from))
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(partial_folder, folder)
    return True


def _write_lists(corpus: Corpus, lists: Path) -> None:
    lists.mkdir()
    if corpus.speakers:
        train = _speaker_files(corpus, "train")
        lines = [f"{speaker} {path}\n" for speaker, paths in train.items() for path in paths]
        (lists / "train_list.txt").write_text("".join(lines))
    if corpus.test_speakers:
        trials = draw_trials(_speaker_files(corpus, "test"), 1000, corpus.seed)
        (lists / "veri_test.txt").write_text("".join(line + "\n" for line in trials))


def _as_json(made_from: Mapping[str, int | float]) -> str:
    return json.dumps(made_from, indent=1) + "\n"


def _parser() -> argparse.ArgumentParser:
    default = Corpus()
    parser = argparse.ArgumentParser(
        prog="python -m shard_tools.synthetic",
        description="Write a small corpus of synthetic speech, noise and rooms, with train and trial lists.",
        epilog="Examples:\n"
        "  python -m shard_tools.synthetic runs/corpus\n"
        "  python -m shard_tools.synthetic /tmp/tiny --speakers 10 --utterances 4 --seed 1\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "folder", type=local_folder, metavar="FOLDER", help="where to write; must not hold anything else"
    )
    helps = {
        "speakers": "speakers to train on; 0 for none",
        "utterances": "utterances of each",
        "test_speakers": "other speakers, for the trials; 0 for none",
        "test_utterances": "utterances of each",
        "noises": "pieces of music; twice as many noises, three times as many talkers for babble",
        "rooms": "room impulse responses",
        "seconds": "median length of an utterance",
        "seed": "another seed, another corpus",
    }
    for name, text in helps.items():
        value = getattr(default, name)
        option = "--" + name.replace("_", "-")
        kind = float if isinstance(value, float) else whole_number(-_ANY, _ANY)  # Corpus knows the bounds
        parser.add_argument(option, metavar="N", type=kind, default=value, help=f"{text} (default {value:g})")
    parser.add_argument("--replace", action="store_true", help="replace a corpus that other arguments made")
    parser.add_argument(
        "--workers", metavar="N", type=whole_number(-_ANY, _ANY), help="processes (default: one a processor)"
    )
    add_version(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""

    def command() -> None:
        arguments = vars(_parser().parse_args(argv))
        folder, workers, replace = (arguments.pop(name) for name in ("folder", "workers", "replace"))
        if workers is not None and not 1 <= workers <= MOST_WORKERS:
            raise UserError(f"--workers is {workers}; it must be from 1 to {MOST_WORKERS}")
        corpus = Corpus(**arguments)
        try:
            made = synthesise(folder, corpus, workers=workers, replace=replace)
        except OSError as error:
            raise UserError(explain(error, error.filename or str(folder))) from error
        state = "written" if made else "already there"
        print(f"{folder}: {corpus.speakers} + {counted(corpus.test_speakers, 'speaker')}, {state}")

    return exit_status(command, program="synthesise")


if __name__ == "__main__":
    sys.exit(main())
