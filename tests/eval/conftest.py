"""A handful of voices that any network tells apart, and a trial list of all their pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from eval_fakes import Ears

from shard_tools import audio


@dataclass(frozen=True)
class Voices:
    """folder: WAV and FLAC files `spk/NN.ext`; trials: a list of all their pairs; lengths: frames by path."""

    folder: Path
    trials: Path
    lengths: dict[str, int]


@pytest.fixture(scope="session")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Voices:
    root = tmp_path_factory.mktemp("voices")
    random = np.random.default_rng(1)
    lengths: dict[str, int] = {}
    for speaker in range(4):
        for number in range(3):
            frames = int(random.integers(6000, 14000))
            if number == 2:
                frames = 8000  # equal lengths, which may share a batch
            time = np.arange(frames) / 16000
            pitch = 120 * 1.5**speaker * (1 + 0.01 * number)
            signal = sum(np.sin(2 * np.pi * pitch * k * time + number) / k for k in (1, 2, 3))
            signal = signal + 0.05 * random.standard_normal(frames)
            codec = "flac" if number else "wav"
            name = f"s{speaker}/{number:02d}.{codec}"
            path = root / "wav" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(audio.encode((4000 * signal).astype(np.int16), codec))
            lengths[name] = frames
    trials = root / "trials.txt"
    pairs = combinations(lengths, 2)
    trials.write_text("".join(f"{int(a[:2] == b[:2])} {a} {b}\n" for a, b in pairs))
    return Voices(root / "wav", trials, lengths)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch's threads wait for each other actively, which is slow where the cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def ears() -> Ears:
    return Ears().eval()


@pytest.fixture
def sketches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty pictures: drawing takes four fifths of an evaluation of few trials."""
    from eval.report import plots  # loads matplotlib

    for name in ("det_curve", "det_overlay", "score_histogram", "calibration_plot", "embedding_map"):
        monkeypatch.setattr(plots, name, lambda *_, **__: b'<svg xmlns="http://www.w3.org/2000/svg"/>')
