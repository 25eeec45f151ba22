"""Ranges of 64 KiB of a corpus's shards, by one client, in a process of its own → JSON.

python gets_once.py CLIENT FOLDER COUNT AT_ONCE CPU: CLIENT is voxshard, voxshard-s3fs (what voxshard does
where obstore is not installed), s3fs, obstore or obstore-asyncio; FOLDER an s3:// URL with a manifest; of
the COUNT, AT_ONCE are asked for together. Prints gets_per_second and gets_per_cpu_second.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from obstore.store import S3Store

LENGTH, THREADS = 65_536, 32
Wanted = list[tuple[str, int]]  # URL, and where to begin


def main() -> None:
    client, folder, (count, at_once), cpu = sys.argv[1], sys.argv[2], map(int, sys.argv[3:5]), sys.argv[5]
    if client == "voxshard-s3fs":
        sys.modules["obstore"] = None  # type: ignore[assignment]
    if cpu != "all":
        os.sched_setaffinity(0, {int(cpu)})
    from shard_tools import storage
    from shard_tools.dataset import manifest as manifest_file

    manifest = manifest_file.in_folder(storage.Folder(folder))
    shards = {f"{folder}/{shard.url}": shard.filesize for shard in manifest.shards}
    fetch = CLIENTS[client](shards, at_once)
    drawn = draw(shards, at_once)
    for _ in range(2):  # connections are made
        fetch(next(drawn))
    began, worked, done = time.perf_counter(), time.process_time(), 0
    while done < count:
        fetch(next(drawn))
        done += at_once
    wall, cpu_time = time.perf_counter() - began, time.process_time() - worked
    print(json.dumps({"gets_per_second": done / wall, "gets_per_cpu_second": done / cpu_time}), flush=True)
    os._exit(0)  # no client's own way to end is measured


def draw(shards: dict[str, int], at_once: int) -> Iterator[Wanted]:
    chosen, urls = random.Random(0), list(shards)
    while True:
        some = chosen.choices(urls, k=at_once)
        yield [(url, chosen.randrange(shards[url] - LENGTH)) for url in some]


def voxshard(shards: dict[str, int], at_once: int) -> Callable[[Wanted], None]:
    """What its reader does for the crops of a batch."""
    from shard_tools.read.ranged import RangedSource

    urls = list(shards)
    number = {url: place for place, url in enumerate(urls)}
    source = RangedSource(urls, list(shards.values()))
    buffers = [memoryview(bytearray(LENGTH)) for _ in range(at_once)]

    def fetch(wanted: Wanted) -> None:
        source.fill([number[url] for url, _ in wanted], [start for _, start in wanted], buffers)

    return fetch


def s3fs(shards: dict[str, int], at_once: int) -> Callable[[Wanted], None]:
    """Its own way to many ranges: one call, in its event loop."""
    from s3fs import S3FileSystem

    files = S3FileSystem(config_kwargs={"max_pool_connections": THREADS})

    def fetch(wanted: Wanted) -> None:
        starts = [start for _, start in wanted]
        ends = [start + LENGTH for start in starts]
        found = files.cat_ranges([url for url, _ in wanted], starts, ends, batch_size=THREADS)
        assert all(len(data) == LENGTH for data in found)

    return fetch


def _bare_store(shards: dict[str, int]) -> S3Store:
    """obstore's, of the bucket where they are."""
    from obstore.store import S3Store

    return S3Store(
        next(iter(shards)).split("/")[2],
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )


def obstore(shards: dict[str, int], at_once: int) -> Callable[[Wanted], None]:
    """Bare, from threads."""
    from obstore import get

    store = _bare_store(shards)
    threads = ThreadPoolExecutor(THREADS)

    def one(wanted: tuple[str, int]) -> int:
        url, start = wanted
        key = url.split("/", 3)[3]
        return len(memoryview(get(store, key, options={"range": (start, start + LENGTH)}).bytes()))

    def fetch(wanted: Wanted) -> None:
        assert all(length == LENGTH for length in threads.map(one, wanted))

    return fetch


def obstore_asyncio(shards: dict[str, int], at_once: int) -> Callable[[Wanted], None]:
    """Bare, from one thread's event loop."""
    from obstore import get_async

    store = _bare_store(shards)
    loop = asyncio.new_event_loop()

    async def one(url: str, start: int) -> int:
        answer = await get_async(store, url.split("/", 3)[3], options={"range": (start, start + LENGTH)})
        return len(memoryview(await answer.bytes_async()))

    async def all_of(wanted: Wanted) -> list[int]:
        return await asyncio.gather(*(one(*each) for each in wanted))

    def fetch(wanted: Wanted) -> None:
        assert all(length == LENGTH for length in loop.run_until_complete(all_of(wanted)))

    return fetch


CLIENTS = {
    "voxshard": voxshard,
    "voxshard-s3fs": voxshard,
    "s3fs": s3fs,
    "obstore": obstore,
    "obstore-asyncio": obstore_asyncio,
}

if __name__ == "__main__":
    main()
