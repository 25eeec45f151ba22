"""m4a and other files that FFmpeg knows, made by PyAV as the ffmpeg program would."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import av
import numpy as np


def encoded(
    samples: np.ndarray,
    rate: int = 16000,
    *,
    container: str = "ipod",
    codec: str = "aac",
    faststart: bool = False,
) -> bytes:
    """int16 samples (n,) or (n, channels) in a file of this container; by default as VoxCeleb2's m4a."""
    if faststart:  # the table is moved to the front of a finished file, which FFmpeg opens again
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.mp4"
            _write(str(path), samples, rate, container, codec, {"movflags": "+faststart"})
            return path.read_bytes()
    file = io.BytesIO()
    _write(file, samples, rate, container, codec, {})
    return file.getvalue()


def _write(
    file: io.BytesIO | str,
    samples: np.ndarray,
    rate: int,
    container: str,
    codec: str,
    options: dict[str, str],
) -> None:
    columns = np.ascontiguousarray(np.atleast_2d(samples.T))
    layout = {1: "mono", 2: "stereo"}[len(columns)]
    with av.open(file, "w", format=container, options=options) as out:
        stream = out.add_stream(codec, rate=rate, layout=layout)
        stream.bit_rate = 64000
        if codec == "aac":
            stream.codec_context.format = "fltp"
        frame = av.AudioFrame.from_ndarray(columns, format="s16p", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)


def speechlike(frames: int, seed: int = 0, rate: int = 16000) -> np.ndarray:
    """int16 (frames,): a voice's fundamental and overtones, with noise that comes and goes."""
    random = np.random.default_rng(seed)
    seconds = np.arange(frames) / rate
    pitch = 90 + 120 * random.random()
    tones = sum(np.sin(2 * np.pi * pitch * k * seconds + k) / k for k in range(1, 12))
    loudness = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * seconds + seed)
    return np.rint(3000 * loudness * (tones + 0.1 * random.standard_normal(frames))).astype(np.int16)


def write(path: Path, samples: np.ndarray, **options: object) -> bytes:
    """`encoded` into a file, whose folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = encoded(samples, **options)  # type: ignore[arg-type]
    path.write_bytes(data)
    return data
