"""Opens a made-up dataset in a process of its own: python scale_once.py COMMAND FOLDER … → JSON.

    python scale_once.py make FOLDER SHARDS SPEAKERS    writes a manifest of SHARDS shards of 1,000 utterances
    python scale_once.py open FOLDER windows|epoch      from its URL to the plan of the first batch
    python scale_once.py augment FOLDER KIND NODE       the same for a set that is augmented with
    python scale_once.py start FOLDER windows|epoch fork|forkserver    two reading processes, until they have
                                                        planned

There are no tars, and a few indexes serve all shards: what is opened is planned, and not read.
"""

from __future__ import annotations

import hashlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shard_tools.dataset import index as index_file
from shard_tools.dataset import manifest_table
from shard_tools.dataset.index_columns import WAV, ShardIndex
from shard_tools.dataset.manifest import Manifest, ShardEntry
from shard_tools.storage import Folder

PER_SHARD, SECONDS, INDEXES = 1000, 8, 64


def make(folder: Path, shards: int, speakers: int) -> None:
    """A set whose shards share `INDEXES` indexes, each of speakers drawn from all in groups of four."""
    folder.mkdir(parents=True, exist_ok=True)
    indexes = [_index(number, min(shards, INDEXES), speakers) for number in range(min(shards, INDEXES))]
    written = [index_file.to_bytes(index) for index in indexes]
    digests = [hashlib.sha256(data).hexdigest() for data in written]
    for number, data in enumerate(written):
        (folder / f"{number:03d}.index.npz").write_bytes(data)
    entries = tuple(
        ShardEntry(
            f"shard-{number:06d}.tar",
            PER_SHARD,
            indexes[own].shard_size,
            indexes[own].shard_sha256,
            int(indexes[own].frames.sum()),
            f"{own:03d}.index.npz",
            digests[own],
        )
        for number in range(shards)
        for own in [number % len(indexes)]
    )
    names = tuple(f"id{number:08d}" for number in range(speakers))
    manifest = Manifest(names, entries, 16000, "0" * 64, {"format": "wav"})
    manifest_table.publish(Folder(str(folder)), manifest)


def _index(number: int, of: int, speakers: int) -> ShardIndex:
    keys = [f"id{number:03d}/video{row // 4:07d}/{row:05d}" for row in range(PER_SHARD)]
    key_bytes, key_ends = index_file.pack_keys(keys)
    frames = np.full(PER_SHARD, 16000 * SECONDS, np.int64)
    each = 2 * 16000 * SECONDS + 2048
    each += -each % 512
    offset = 512 + np.arange(PER_SHARD, dtype=np.int64) * each
    size = int(offset[-1]) + each + 1024
    rng = np.random.default_rng(number)
    label = rng.integers(0, speakers, PER_SHARD // 4).repeat(4).astype(np.int32)
    zeros = np.zeros(PER_SHARD, np.int32)
    return ShardIndex(
        key_bytes=key_bytes,
        key_ends=key_ends,
        label=label,
        turn=np.arange(PER_SHARD, dtype=np.int32) % 4,
        total=zeros + 4,
        next_shard=zeros + number,
        frames=frames,
        codec=np.full(PER_SHARD, WAV, np.uint8),
        offset=offset,
        size=44 + 2 * frames,
        pcm_offset=offset + 44,
        flac_block=zeros,
        flac_offset=np.empty(0, np.uint32),
        block_crc32=rng.integers(0, 2**32, -(-size // index_file.BLOCK_SIZE), dtype=np.uint32),
        block_size=index_file.BLOCK_SIZE,
        shard_size=size,
        shard_sha256=hashlib.sha256(f"{number} of {of}".encode()).hexdigest(),
        inputs="0" * 64,
    )


def memory_mib(*fields: str) -> float:
    """The sum of some fields of this process's smaps_rollup, such as Pss or Private_Dirty."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    return sum(found[field] for field in fields) / 1024


def measure(url: str, order: str) -> dict[str, float]:
    """Seconds and MiB of opening, as a training process does it; MiB are what its memory grew by.

    It waits for a line on stdin before it opens, and before and after it looks at its memory, so that
    several do so at once.
    """
    from train.data.assemble import build_plan, build_stream, open_training_data

    config = _config(url, order)

    def opened() -> Any:
        data = open_training_data(config)
        stream = build_stream(config, data, build_plan(data, config), 0, 1, 1)
        next(iter(stream.planned([0])))
        return data, stream

    figures, (data, _) = _measured(opened)
    return {**figures, "utterances": len(data.table)}


def measure_augmented(url: str, kind: str, node: str) -> dict[str, float]:
    """Likewise, of opening what a kind of augmentation draws from; music is of one category of three.

    node: a folder of the node's own; node_seconds: CPU seconds of the processes that were started for it.
    """
    from train.config.parsing import parse
    from train.data.augmentation import build_augmenter

    words = ["--data.url", url, "--train.steps", "1", f"--augment.{kind}.url", url]
    words += ["--augment.music.category", "id00000001"] * (kind == "music")
    config = parse([*words, "--data.cache.folder", node])
    figures, augmenter = _measured(
        lambda: build_augmenter(config.augment, frames=32000, seed=0, data=config.data)
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    recordings = len(augmenter.sources[kind])
    return {**figures, "node_seconds": used.ru_utime + used.ru_stime, "utterances": recordings}


def _measured(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """What it takes, and leaves in memory as long as its result is held."""
    _wait()
    private = ("Private_Clean", "Private_Dirty")
    before = memory_mib(*private), memory_mib("Pss")
    began, computed = time.perf_counter(), time.process_time()
    result = work()
    found = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - computed}
    _wait()
    own, shared = memory_mib(*private) - before[0], memory_mib("Pss") - before[1]
    _wait()
    return {**found, "private_mib": own, "pss_mib": shared}, result


def _config(url: str, order: str) -> Any:
    from train.config.parsing import parse

    words = ["--data.url", url, "--train.steps", "1", "--data.order", order, "--batch.speakers", "200"]
    return parse([*words, "--batch.max_utterances_per_speaker", "null"])


@dataclass
class Planned:
    """A Stream whose batches are planned, and not read."""

    stream: Any
    most_bytes: int = 4096
    remote: bool = False

    def plan_for_all(self, step: int) -> None:
        self.stream.plan_for_all(step)

    def made(self, steps: Iterable[int]) -> Iterator[dict[str, Any]]:
        """What a process has to itself when it has planned, MiB; and with its part of what is shared."""
        for batch in self.stream.planned(steps):
            yield {
                "step": batch.step,
                "private_mib": memory_mib("Private_Clean", "Private_Dirty"),
                "pss_mib": memory_mib("Pss"),
            }


def start(url: str, order: str, method: Any) -> dict[str, float]:
    """Seconds from opening the loader until both of two processes have planned, and MiB of one of them."""
    from train.data.assemble import build_plan, build_stream, open_training_data
    from train.data.loader import open_loader

    config = _config(url, order)
    data = open_training_data(config)
    stream: Any = Planned(build_stream(config, data, build_plan(data, config), 0, 1, 1))
    began = time.perf_counter()
    with open_loader(stream, 0, 2, workers=2, prefetch=1, start_method=method) as batches:
        found = list(batches)
    seconds = time.perf_counter() - began
    mean = {name: sum(each[name] for each in found) / 2 for name in ("private_mib", "pss_mib")}
    return {"seconds": seconds, **mean, "utterances": len(data.table)}


def _wait() -> None:
    print("here", flush=True)
    sys.stdin.readline()


def main() -> None:
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1] == "augment":
        print(json.dumps(measure_augmented(*sys.argv[2:])))
    elif sys.argv[1] == "start":
        print(json.dumps(start(*sys.argv[2:])))
    else:
        print(json.dumps(measure(sys.argv[2], sys.argv[3])))


if __name__ == "__main__":
    main()
