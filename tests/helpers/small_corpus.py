"""Small shards to train on: 16 speakers of buzzing, noise and two rooms, on the local disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from shard_tools.pack.packing import PackOptions, pack

SPEAKERS, UTTERANCES = 16, 6


@dataclass(frozen=True)
class Corpus:
    folder: Path
    wav: str
    flac: str
    noise: str
    rooms: str
    trials: Path


def write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (samples.clip(-1, 1) * 32767).astype(np.int16), 16000, subtype="PCM_16")


def buzz(rng: np.random.Generator, pitch: float, frames: int) -> np.ndarray:
    time = np.arange(frames) / 16000
    wave = sum(np.sin(2 * np.pi * pitch * k * time + rng.uniform(0, 6)) / k for k in range(1, 9))
    return 0.1 * wave + 0.02 * rng.standard_normal(frames)


def make(folder: Path) -> Corpus:
    """Write the audio and the shards below `folder`; a second or two."""
    rng = np.random.default_rng(0)
    for speaker in range(SPEAKERS):
        for number in range(UTTERANCES):
            # from shorter than a crop to three times as long
            frames = int(rng.integers(4000, 20000))
            write(folder / f"wav/s{speaker:02d}/{number}.wav", buzz(rng, 80 + 12 * speaker, frames))
    for number in range(8):
        write(folder / f"noise/noise/{number}.wav", 0.1 * rng.standard_normal(int(rng.integers(5000, 40000))))
    for number in range(2):
        taps = rng.standard_normal(3000) * np.exp(-np.arange(3000) / 500)
        write(folder / f"rooms/rooms/{number}.wav", 0.5 * taps)
    names = [f"s{speaker:02d}/{number}.wav" for speaker in range(4) for number in range(3)]
    lines = [f"{int(a[:3] == b[:3])} {a} {b}\n" for i, a in enumerate(names) for b in names[i + 1 :]]
    (folder / "trials.txt").write_text("".join(lines))
    shards = folder / "shards"
    forms = [
        ("wav", "wav", "keep"),
        ("flac", "wav", "flac"),
        ("noise", "noise", "keep"),
        ("rooms", "rooms", "keep"),
    ]
    for kind, source, form in forms:
        options = PackOptions(format=form, utterances_per_shard=30)
        pack(str(folder / source), str(shards / kind), options=options)
    paths = {kind: str(shards / kind) for kind in ("wav", "flac", "noise", "rooms")}
    return Corpus(folder=folder, trials=folder / "trials.txt", **paths)
