"""A small corpus of noise, made afresh for each test that asks for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile


class Corpus:
    """Audio files below `root`; `samples` holds what was written, int16 (frames,), by relative path."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.samples: dict[str, np.ndarray] = {}
        self._random = np.random.default_rng(7)

    def add(self, path: str, frames: int = 2000) -> np.ndarray:
        samples = self._random.integers(-20000, 20000, frames).astype(np.int16)
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        kind = "FLAC" if path.endswith(".flac") else "WAV"
        soundfile.write(target, samples, 16000, format=kind, subtype="PCM_16")
        self.samples[path] = samples
        return samples

    def write_list(self, name: str = "list.txt") -> str:
        lines = [f"{path.split('/')[0]} {path}\n" for path in self.samples]
        (self.root.parent / name).write_text("".join(lines))
        return str(self.root.parent / name)


@pytest.fixture
def empty_corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "audio").mkdir()
    return Corpus(tmp_path / "audio")


@pytest.fixture
def corpus(empty_corpus: Corpus) -> Corpus:
    """Five speakers with three to seven utterances each, WAV and FLAC, 1,000 to 4,000 frames."""
    for speaker in range(5):
        for utterance in range(3 + speaker):
            extension = "flac" if utterance == 1 else "wav"
            frames = 1000 + 137 * (speaker * 7 + utterance) % 3000
            empty_corpus.add(f"id{speaker}/video{utterance % 2}/{utterance:05d}.{extension}", frames)
    return empty_corpus
