"""The configuration of the small runs that the tests submit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from small_corpus import Corpus

STEPS = 140
SMALL_NETWORK = {"n_mels": 20, "channels": 16, "embedding_size": 16}


def config(corpus: Corpus, path: Path, **train: Any) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "data": {"url": corpus.wav, "crop_frames": 50, "workers": 1},
                "batch": {"speakers": 8, "utterances_per_speaker": 2},
                "augment": {"noise": {"url": corpus.noise}, "reverberation": {"url": corpus.rooms}},
                "model": {"name": "tdnn", "options": SMALL_NETWORK},
                "loss": {"name": "angleproto"},
                "train": {"steps": STEPS, "log_every": 1, **train},
                "checkpoint": {"every": 20, "keep": 100},
            }
        )
    )
    return path
