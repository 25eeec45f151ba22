"""One turn of the packing benchmark, in a process of its own: prints seconds, cpu_seconds, peak_mib as JSON.

Usage: pack_once.py pack|tar|encode|make_tiny SOURCE TARGET NUMBER FORMAT
NUMBER: workers of pack; processes of encode; utterances of make_tiny, which makes SOURCE.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from shard_tools import audio
from shard_tools.pack.packing import PackOptions, pack


def main() -> None:
    what, source, target, number, form = sys.argv[1:]
    began, cpu = time.perf_counter(), _cpu_seconds()
    if what == "pack":
        pack(source, target, options=PackOptions(format=form), workers=int(number))  # type: ignore[arg-type]
    elif what == "tar":
        _tar(source, Path(target))
    elif what == "encode":
        _encode(sorted(Path(source).rglob("*.wav")), int(number))
    else:
        _make_tiny(Path(source), int(number))
    seconds, cpu_seconds = time.perf_counter() - began, _cpu_seconds() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": _peak_mib()}))


def _tar(source: str, target: Path) -> None:
    target.mkdir()
    subprocess.run(
        ["tar", "--create", "--file", str(target / "x.tar"), "--directory", source, "."], check=True
    )
    for path in (target / "x.tar", target):
        place = os.open(path, os.O_RDONLY)
        os.fsync(place)
        os.close(place)


def _encode(paths: list[Path], processes: int) -> None:
    """Every file to FLAC and away: what two of this machine's cores do together of what packing waits for."""
    workers = [
        multiprocessing.get_context("fork").Process(target=_encode_some, args=(paths[first::processes],))
        for first in range(processes)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0


def _encode_some(paths: list[Path]) -> None:
    for path in paths:
        samples, _ = soundfile.read(path, dtype="int16")
        audio.encode(samples, "flac")


def _make_tiny(root: Path, count: int) -> None:
    """Of 1,000 speakers; SPEAKER/NUMBER.wav, 20 ms each."""
    data = audio.encode(np.arange(320, dtype=np.int16), "wav")
    for number in range(count):
        path = root / f"id{number % 1000:04d}" / f"{number // 1000:05d}.wav"
        if number < 1000:
            path.parent.mkdir(parents=True)
        path.write_bytes(data)


def _peak_mib() -> float:
    """Of this program: getrusage's would be that of who started it, where that was more."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


def _cpu_seconds() -> float:
    both = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


if __name__ == "__main__":
    main()
