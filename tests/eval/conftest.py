"""A handful of voices that any network tells apart, and a trial list of all their pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

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


class Ears(torch.nn.Module):
    """A network without training: mean magnitudes of random filters, and a batch norm and dropout to trip over."""

    embedding_size = 16

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.filters = torch.nn.Parameter(torch.randn(160, 16, generator=generator))
        self.norm = torch.nn.BatchNorm1d(16)
        self.dropout = torch.nn.Dropout(0.5)
        self.calls: list[tuple[int, ...]] = []

    def forward(self, sound: torch.Tensor) -> torch.Tensor:
        assert sound.dtype == torch.float32
        assert float(sound.abs().max()) <= 1.0
        self.calls.append(tuple(sound.shape))
        windows = sound.unfold(1, 160, 80)
        return self.dropout(self.norm((windows @ self.filters).abs().mean(dim=1)))


@pytest.fixture
def ears() -> Ears:
    return Ears().eval()
