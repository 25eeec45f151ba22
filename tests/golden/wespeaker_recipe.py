"""The utterances in wespeaker_shards, which wespeaker's own tool packed (make_wespeaker_shards.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "wespeaker_shards"

# One utterance of which the tool was told what is speech, in seconds: it cuts, and writes a WAV of its own.
VOICED = (("id10001/Ab-1/00002.wav", 0.02, 0.08), ("id10001/Ab-1/00002.wav", 0.1, 0.17))


def utterances() -> dict[str, np.ndarray]:
    """int16 (frames,) by the keys of wespeaker's VoxCeleb recipes, which keep a file's ending."""
    found = {}
    for speaker in range(3):
        for number in range(2):
            ending = "flac" if (speaker, number) == (2, 1) else "wav"
            frames = 2600 + 400 * speaker + 100 * number
            seconds = np.arange(frames) / 16000
            tones = sum(
                np.sin(2 * np.pi * (110 + 40 * speaker) * k * seconds + number) / k for k in range(1, 6)
            )
            found[f"id1000{speaker}/Ab-{speaker}/0000{number + 1}.{ending}"] = np.rint(3000 * tones).astype(
                np.int16
            )
    return found


def packed() -> dict[str, np.ndarray]:
    """The same, as the tool packed it."""
    found = utterances()
    for key in {key for key, _, _ in VOICED}:
        pieces = [found[key][int(begin * 16000) : int(end * 16000)] for of, begin, end in VOICED if of == key]
        found[key] = np.concatenate(pieces)
    return found
