"""Which utterances hold the same audio: found by length, then by a sample of it, and only then by a digest.

Of files that shards can hold as they are it is the audio that counts, whatever else is in them: the MD5 of
16-bit PCM, which a FLAC has in its header, so that a WAV and a FLAC of it are duplicates. Of others, which
--convert would decode, all bytes of the file count. What is kept of each file is a few numbers.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from shard_tools import audio
from shard_tools.arrays import Int64Array
from shard_tools.audio.flac_header import read_stream_info
from shard_tools.pack.check import Checked, window_of
from shard_tools.pack.corpus import Corpus
from shard_tools.pack.listing import ProblemsError
from shard_tools.workers import Report, run

_FILES_PER_TASK = 200
_SAMPLE_BYTES = 4096  # from the middle, where speech is
_AT_ONCE = 1 << 20

UInt64Array = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class _Task:
    rows: Int64Array
    corpus: Corpus
    paths: Sequence[str]
    checked: Sequence[Checked]
    whole: bool


def originals(
    corpus: Corpus, paths: Sequence[str], checked: Sequence[Checked], *, workers: int, progress: bool
) -> Int64Array:
    """(N,): for each file the first one in order that holds the same audio, itself where none before does.

    checked: with seconds. Raises ProblemsError for files that cannot be read.
    """
    first = np.arange(len(paths))
    codec = np.array([{None: 0, "wav": 1, "flac": 2}[file.codec] for file in checked], np.int64)
    length = np.array([file.seconds if file.codec else file.size for file in checked], np.float64)
    rows, group = _alike(first, np.stack([codec > 0, length], 1))
    if not len(rows):
        return first
    # A FLAC's samples are behind its decoder, but its digest stands in its header.
    has_flac = np.bincount(group, weights=codec[rows] == 2) > 0
    look = ~has_flac[group]
    sampled = np.zeros(len(rows), np.uint64)
    sampled[look] = _digests(corpus, paths, checked, rows[look], False, workers, progress)[:, 0]
    rows, group = _alike(rows, np.stack([group.astype(np.uint64), sampled], 1))
    if not len(rows):
        return first
    digests = _digests(corpus, paths, checked, rows, True, workers, progress)
    rows, group = _alike(rows, np.concatenate([group.astype(np.uint64)[:, None], digests], 1))
    if len(rows):
        first[rows] = rows[np.unique(group, return_index=True)[1]][group]
    return first


def _alike(rows: Int64Array, keys: npt.NDArray[np.generic]) -> tuple[Int64Array, Int64Array]:
    """Those rows, ascending, whose key (M, columns) another one has too, and the numbers of their keys."""
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    several = counts[inverse] > 1
    return rows[several], np.unique(inverse[several], return_inverse=True)[1].reshape(-1)


def _digests(
    corpus: Corpus,
    paths: Sequence[str],
    checked: Sequence[Checked],
    rows: Int64Array,
    whole: bool,
    workers: int,
    progress: bool,
) -> UInt64Array:
    """(len(rows), 2): of the `whole` audio, or of a sample of it."""
    tasks = []
    for begin in range(0, len(rows), _FILES_PER_TASK):
        some = rows[begin : begin + _FILES_PER_TASK]
        names = [paths[row] for row in some]
        tasks.append(_Task(some, corpus.part(names), names, [checked[row] for row in some], whole))
    found = np.zeros((len(rows), 2), np.uint64)
    problems: list[tuple[int, str]] = []
    label = "comparing" if whole else "looking for duplicates"
    with tqdm(total=len(rows), unit="file", desc=label, disable=None if progress else True) as bar:
        for task, (digests, bad) in run(_read, tasks, workers=workers, progress=bar.update):
            found[np.searchsorted(rows, task.rows)] = digests
            problems += bad
    if problems:
        raise ProblemsError([text for _, text in sorted(problems)], "nothing was packed")
    return found


def _read(task: _Task, report: Report) -> tuple[UInt64Array, list[tuple[int, str]]]:
    digests = np.zeros((len(task.rows), 2), np.uint64)
    problems: list[tuple[int, str]] = []
    for number, (row, path, checked) in enumerate(zip(task.rows, task.paths, task.checked, strict=True)):
        name = os.path.join(task.corpus.root, path)
        try:
            digest = _digest(task.corpus, path, name, checked, task.whole)
            digests[number] = np.frombuffer(digest, "<u8")
        except audio.AudioError as error:
            problems.append((int(row), str(error)))
        except OSError as error:
            problems.append((int(row), f"{name}: cannot be read ({error.strerror})"))
        except MemoryError:
            problems.append((int(row), f"{name}: is more than this machine has memory for; cut it"))
        report(1)
    return digests, problems


def _digest(corpus: Corpus, path: str, name: str, checked: Checked, whole: bool) -> bytes:
    """16 bytes."""
    with corpus.open(path) as source:
        if source.size != checked.size:
            raise audio.AudioError(f"{name}: changed while it was looked at; run again when it is at rest")
        begin, end = 0, source.size
        if checked.codec is not None:
            at = window_of(source.file)
            info = audio.probe_window(at, source.size, name)
            if info.pcm_offset is None:
                md5 = read_stream_info(at, source.size, name).md5
                return md5 or _decoded(source.file, name)
            begin, end = info.pcm_offset, info.pcm_offset + 2 * info.frames
        if not whole:
            begin += max((end - begin - _SAMPLE_BYTES) // 2, 0) // 2 * 2
            end = min(end, begin + _SAMPLE_BYTES)
        found = hashlib.md5(usedforsecurity=False)
        source.file.seek(begin)
        while begin < end and (data := source.file.read(min(_AT_ONCE, end - begin))):
            found.update(data)
            begin += len(data)
        return found.digest()


def _decoded(file: BinaryIO, name: str) -> bytes:
    """The MD5 that the header of a FLAC lacks."""
    file.seek(0)
    pcm: memoryview = audio.decode(file.read(), name).astype("<i2", copy=False).data
    return hashlib.md5(pcm, usedforsecurity=False).digest()
