"""`dataprep convert` on one core and two, and the VoxCeleb trainer's loop: a process of ffmpeg per file."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from aac_files import encoded
from harness.contest import last_line
from harness.settings import Settings
from harness.spread import summary

from shard_tools import audio
from shard_tools.synthetic.voices import draw_voice, generator, record, speak

TITLE = "Converting"
LAYOUT = "converting"
LOOP, ONE, TWO = "a process of ffmpeg per file", "dataprep convert, 1 core", "dataprep convert, 2 cores"
ABOUT = (
    "m4a of 8 s, AAC of 64 kbit/s as VoxCeleb2's, into WAV: the command from its start to its end, pinned to"
    " so many cores, and the VoxCeleb trainer's loop on a part of the files. “By CPU time”: files per CPU"
    " second of the first process and the mean of its workers, as if each had a core to itself, which others"
    " on the machine disturb less; targets are held against that."
)
TARGETS = ((TWO, ONE, 1.8), (TWO, LOOP, 3.0), (ONE, LOOP, None))
PROGRAM = Path(__file__).parents[1] / "harness" / "convert_once.py"
SECONDS, DISTINCT = 8, 20  # further files are links to these
# As in the trainer's dataprep.py.
COMMAND, RESULT = ["ffmpeg", "-y"], ["-ac", "1", "-vn", "-acodec", "pcm_s16le", "-ar", "16000"]

Turn = dict[str, float]


def run(settings: Settings) -> dict[str, Any]:
    """One dict a contestant: name, status, reason, summaries of files_per_second and by_cpu; and ratios."""
    turns: dict[str, list[Turn]] = {ONE: [], TWO: []}
    absent = []
    if shutil.which("ffmpeg"):
        turns = {LOOP: [], **turns}
    else:
        absent = [{"name": LOOP, "status": "not installed", "reason": "not installed: ffmpeg"}]
    with tempfile.TemporaryDirectory(prefix="bench-", dir=settings.cache) as name:
        folder = Path(name)
        paths = make_files(folder / "aac", settings.convert_files)
        for _ in range(settings.convert_rounds):
            for contestant, found in turns.items():
                if contestant == LOOP:
                    found.append(_loop(paths[: settings.convert_loop], folder / "out"))
                else:
                    found.append(_ours(folder, len(paths), 1 if contestant == ONE else 2))
                shutil.rmtree(folder / "out")
    done = [
        {"name": name, "status": "ok", **{unit: summary([turn[unit] for turn in found]) for unit in found[0]}}
        for name, found in turns.items()
    ]
    return {"contestants": absent + done, "ratios": list(_ratios(turns))}


def make_files(folder: Path, count: int) -> list[Path]:
    """So many m4a in VoxCeleb2's layout, of made-up voices."""
    paths: list[Path] = []
    for number in range(count):
        path = folder / f"id{number % 50:05d}" / "video" / f"{number:05d}.m4a"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < DISTINCT:
            random = generator(number, "bench")
            said = record(speak(draw_voice(random), random, SECONDS * audio.SAMPLE_RATE), random)
            path.write_bytes(encoded((said * 32767).astype("int16")))
        else:
            os.link(paths[number % DISTINCT], path)
        paths.append(path)
    return paths


def _loop(paths: list[Path], out: Path) -> Turn:
    began, worked = time.perf_counter(), _cpu_of_children()
    for path in paths:
        target = out / path.parent.relative_to(path.parents[2]) / f"{path.stem}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        command = [*COMMAND, "-i", str(path), *RESULT, str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return _turn(len(paths), time.perf_counter() - began, _cpu_of_children() - worked)


def _ours(folder: Path, files: int, cores: int) -> Turn:
    words = [str(cores), str(folder / "aac"), str(folder / "out")]
    began = time.perf_counter()
    process = subprocess.run([sys.executable, str(PROGRAM), *words], capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise RuntimeError(last_line(process.stderr, process.returncode))
    cpu = json.loads(process.stdout.splitlines()[-1])
    return _turn(files, seconds, cpu["own"] + cpu["workers"] / cores)


def _turn(files: int, wall: float, cpu: float) -> Turn:
    return {"files_per_second": files / wall, "by_cpu": files / cpu}


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _ratios(turns: dict[str, list[Turn]]) -> Any:
    for of, to, at_least in TARGETS:
        if to not in turns:
            continue
        wall, cpu = (
            summary([own[unit] / other[unit] for own, other in zip(turns[of], turns[to], strict=True)])
            for unit in ("files_per_second", "by_cpu")
        )
        met = None if at_least is None else cpu["median"] >= at_least
        yield {"of": of, "to": to, "at_least": at_least, "met": met, **wall, "cpu": cpu}
