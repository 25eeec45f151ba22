"""`dataprep convert` on one and two cores, against the VoxCeleb trainer's loop: a process of ffmpeg per file.

    python tests/bench/convert.py FOLDER [--files 1000] [--loop 100] [--turns 3]

Made-up speech of 8 s, AAC at 64 kbit/s in m4a as VoxCeleb2 has it, is written below FOLDER by the program
ffmpeg, which must be installed (apt-get install ffmpeg). In each turn all contestants run one after the
other, pinned to the cores they are said to have: convert on all files, started anew with its processes, the
loop on the first of them. A figure is files per second, and per second that processors worked, which tells
more where others work too: the median over turns, with the lowest and the highest; a ratio is taken within
each turn.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPO)]

SECONDS = 8
DISTINCT = 20  # recordings; further files are copies
LOOP, ONE, TWO = ("loop of ffmpeg, 2 cores", "dataprep convert, 1 core", "dataprep convert, 2 cores")


class Rate(NamedTuple):
    """Files per second, and per second that processors worked."""

    wall: float
    cpu: float


class Watch:
    """Time since it was made, and what child processes that have ended computed meanwhile."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), self._worked()

    def rate(self, files: int) -> Rate:
        return Rate(files / (time.perf_counter() - self._wall), files / (self._worked() - self._cpu))

    @staticmethod
    def _worked() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where files are written; some MB a hundred")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=100, help="files that the loop converts")
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        paths = corpus(folder / "aac", args.files)
        turns = []
        for _ in range(args.turns):
            turns.append(
                {
                    LOOP: loop(paths[: args.loop], folder),
                    ONE: ours(folder, args.files, 1),
                    TWO: ours(folder, args.files, 2),
                }
            )
    for contestant in turns[0]:
        wall = summary([turn[contestant].wall for turn in turns])
        cpu = summary([turn[contestant].cpu for turn in turns])
        print(f"{contestant:28}{wall} files/s, {cpu} per CPU second")
    for left, right in ((TWO, ONE), (TWO, LOOP)):
        wall = summary([turn[left].wall / turn[right].wall for turn in turns])
        cpu = summary([turn[left].cpu / turn[right].cpu for turn in turns])
        print(f"{left} ÷ {right}: {wall}; per CPU second {cpu}")


def corpus(folder: Path, files: int) -> list[Path]:
    """Paths of so many m4a files in the layout of VoxCeleb2."""
    from shard_tools import audio
    from shard_tools.synthetic.voices import draw_voice, generator, record, speak

    paths = []
    for number in range(files):
        path = folder / f"id{number % 50:05d}" / "video" / f"{number:05d}.m4a"
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.append(path)
        if number >= DISTINCT:
            shutil.copyfile(paths[number % DISTINCT], path)
            continue
        random = generator(number, "bench")
        said = record(speak(draw_voice(random), random, SECONDS * audio.SAMPLE_RATE), random)
        wav = audio.encode((said * 32767).astype("int16"), "wav")
        command = ["ffmpeg", "-v", "error", "-i", "-", "-c:a", "aac", "-b:a", "64k", str(path)]
        subprocess.run(command, input=wav, check=True)
    return paths


def loop(paths: list[Path], folder: Path) -> Rate:
    """Files per second of the trainer's loop, whose command this is."""
    cores(2)
    watch = Watch()
    for path in paths:
        out = Path(str(path).replace("/aac/", "/loop/")).with_suffix(".wav")
        out.parent.mkdir(parents=True, exist_ok=True)
        command = f"ffmpeg -y -i {path} -ac 1 -vn -acodec pcm_s16le -ar 16000 {out}".split()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rate = watch.rate(len(paths))
    shutil.rmtree(folder / "loop")
    return rate


def ours(folder: Path, files: int, workers: int) -> Rate:
    """Files per second of the command, from its start to its end."""
    cores(workers)
    words = ["convert", str(folder / "aac"), str(folder / "ours"), "--workers", str(workers)]
    watch = Watch()
    subprocess.run(
        [sys.executable, "-m", "shard_tools.dataprep", *words],
        check=True,
        cwd=REPO,
        stdout=subprocess.DEVNULL,
    )
    rate = watch.rate(files)
    shutil.rmtree(folder / "ours")
    return rate


def cores(count: int) -> None:
    """Pin what this process starts to so many cores."""
    everything = sorted(ALL_CORES)
    os.sched_setaffinity(0, everything[:count])


def summary(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} [{min(values):.2f} – {max(values):.2f}]"


ALL_CORES = os.sched_getaffinity(0)

if __name__ == "__main__":
    main()
