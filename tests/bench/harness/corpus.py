"""The corpus that the benchmarks read: speech-shaped noise, made once and kept outside the project.

Compressed sizes and decoding times of FLAC are those of something like speech; nothing
else about the signal matters to a loader. Real speech can be taken instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy.fft
import soundfile

import shard_tools
from shard_tools.arrays import Float32Array
from shard_tools.pack.packing import PackOptions, pack

RATE = 16000
STAMP = "complete.json"  # written last
VERSION = 1  # of what this file makes: another number makes it anew


@dataclass(frozen=True)
class Size:
    """How much to make. Recordings of noise, music and speech: so many of each kind."""

    name: str
    speakers: int
    utterances: int
    seconds: float
    recordings: int
    recording_seconds: float
    rooms: int
    utterances_per_shard: int


FULL = Size("full", 200, 6, 8.0, 60, 5.0, 300, 100)
SMALL = Size("small", 200, 2, 8.0, 60, 5.0, 300, 100)
STORE = Size("store", 200, 10, 8.0, 60, 5.0, 300, 100)
TINY = Size("tiny", 8, 2, 2.5, 8, 2.0, 3, 8)


@dataclass(frozen=True)
class Corpus:
    """Where a corpus lies; `size.speakers` speakers make a batch of one utterance each."""

    folder: Path
    size: Size

    @property
    def speech(self) -> Path:
        """SPEAKER/VIDEO/NUMBER.wav."""
        return self.folder / "speech"

    @property
    def noises(self) -> Path:
        """noise|music|speech/NUMBER.wav."""
        return self.folder / "noises"

    @property
    def rooms(self) -> Path:
        """room/NUMBER.wav: impulse responses of a second."""
        return self.folder / "rooms"

    def shards(self, kind: str) -> Path:
        """Our shards: wav or flac (the speech), noises, rooms."""
        return self.folder / "shards" / kind

    def converted(self, name: str) -> Path:
        """The speech in the format of another library."""
        return self.folder / "converted" / name

    def files(self) -> list[Path]:
        return sorted(self.speech.rglob("*.wav"))


def make_corpus(folder: Path, size: Size, speech: Path | None = None) -> Corpus:
    """The corpus of this size below `folder`, made now unless it is there.

    speech: recordings to cut its utterances from, SPEAKER/…/*.wav or *.flac; None: made-up ones.
    """
    corpus = Corpus(folder / f"corpus-{size.name}{'-real' if speech else ''}", size)
    made_of = json.dumps({"version": VERSION, "speech": str(speech), **asdict(size)}, indent=1)
    if _stamp(corpus.folder) != made_of:
        shutil.rmtree(corpus.folder, ignore_errors=True)
        if speech is None:
            _speech(corpus)
        else:
            _real_speech(corpus, speech)
        _noises(corpus)
        _rooms(corpus)
        (corpus.folder / STAMP).write_text(made_of)
    packed_by = _digest_of_packer()
    shards = corpus.folder / "shards"
    if _stamp(shards) != packed_by:
        shutil.rmtree(shards, ignore_errors=True)
        _pack(corpus)
        (shards / STAMP).write_text(packed_by)
    return corpus


def _stamp(folder: Path) -> str | None:
    path = folder / STAMP
    return path.read_text() if path.exists() else None


def _digest_of_packer() -> str:
    """Shards of another version of the project are not measured."""
    digest = hashlib.sha256()
    for path in sorted(Path(shard_tools.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _pack(corpus: Corpus) -> None:
    cores = len(os.sched_getaffinity(0)) if corpus.size.speakers > TINY.speakers else 1
    for kind, source, form in (
        ("wav", corpus.speech, "keep"),
        ("flac", corpus.speech, "flac"),
        ("noises", corpus.noises, "keep"),
        ("rooms", corpus.rooms, "keep"),
    ):
        options = PackOptions(format=form, utterances_per_shard=corpus.size.utterances_per_shard)
        workers = cores if form == "flac" else 1
        pack(str(source), str(corpus.shards(kind)), options=options, workers=workers)


def _speech(corpus: Corpus) -> None:
    for speaker in range(corpus.size.speakers):
        for number in range(corpus.size.utterances):
            rng = np.random.default_rng([1, speaker, number])
            path = corpus.speech / f"id{speaker:05d}" / "video" / f"{number:05d}.wav"
            _write(path, speech_shaped(rng, int(corpus.size.seconds * RATE)))


def _real_speech(corpus: Corpus, source: Path) -> None:
    """Each speaker's recordings one after the other, in a circle; each utterance begins elsewhere in it."""
    folders = sorted(folder for folder in source.iterdir() if folder.is_dir())
    frames = int(corpus.size.seconds * RATE)
    for speaker in range(corpus.size.speakers):
        own = folders[speaker % len(folders)]
        paths = sorted(path for path in own.rglob("*") if path.suffix in (".wav", ".flac"))
        said = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths])
        for number in range(corpus.size.utterances):
            first = number * len(said) // corpus.size.utterances
            path = corpus.speech / f"id{speaker:05d}" / "video" / f"{number:05d}.wav"
            _write(path, np.take(said, np.arange(first, first + frames), mode="wrap"))


def _noises(corpus: Corpus) -> None:
    for kind, name in enumerate(("noise", "music", "speech")):
        for number in range(corpus.size.recordings):
            rng = np.random.default_rng([2, kind, number])
            frames = int(corpus.size.recording_seconds * RATE)
            _write(corpus.noises / name / f"{number:05d}.wav", speech_shaped(rng, frames))


def _rooms(corpus: Corpus) -> None:
    for number in range(corpus.size.rooms):
        rng = np.random.default_rng([3, number])
        decay = np.exp(-np.arange(RATE) / (RATE * rng.uniform(0.03, 0.15)))
        _write(corpus.rooms / "room" / f"{number:05d}.wav", 0.3 * rng.standard_normal(RATE) * decay)


def speech_shaped(rng: np.random.Generator, frames: int) -> Float32Array:
    """Noise with speech's long-term spectrum (flat to 500 Hz, then -9 dB an octave) and 4 Hz syllables."""
    spectrum = scipy.fft.rfft(rng.standard_normal(frames, dtype=np.float32))
    gains, syllables = _shape(frames)
    wave = scipy.fft.irfft(spectrum * gains, frames)
    wave *= np.roll(syllables, int(rng.integers(RATE // 4)))
    return wave * (0.08 / wave.std())


@cache
def _shape(frames: int) -> tuple[Float32Array, Float32Array]:
    frequency = np.fft.rfftfreq(frames, 1 / RATE)
    gains = np.maximum(frequency / 500, 1) ** -1.5 * (frequency > 60)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(frames) / RATE)
    return gains.astype(np.float32), syllables.astype(np.float32)


def _write(path: Path, samples: npt.NDArray[np.floating]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (samples.clip(-1, 1) * 32767).astype(np.int16), RATE, subtype="PCM_16")
