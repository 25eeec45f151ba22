"""Publishing one shard: its tar, made in a scratch folder or sent while it is made, then its index."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

from shard_tools import storage
from shard_tools.dataset import index as index_file
from shard_tools.dataset.tar import Writable
from shard_tools.errors import UserError
from shard_tools.pack import claim as pack_claim
from shard_tools.pack.building import build, entry_of
from shard_tools.pack.task import ShardResult, ShardTask
from shard_tools.storage.backends import Upload
from shard_tools.storage.errors import explain
from shard_tools.workers import Report

_MOST_THREADS = 4
_TRIES = 3  # to send a shard that others break off
_POLL_S = 0.2
_LARGE_FILE = 1 << 16  # bytes, of the mean: two seconds of audio


def write_shard(task: ShardTask, report: Report) -> ShardResult:
    """Make and publish a shard, then its index. `report` gets the bytes of each source when it is done with.

    Every source is looked at even after one was refused, so that all problems are known at once.
    The tar is sent while it is made where the kind of storage can do that; else it is made in the scratch
    folder first.
    """
    for attempt in range(1, _TRIES + 1):
        upload = task.site.upload(task.tar_name)
        if upload is None:
            return _write_by_scratch(task, report)
        try:
            return _write_by_upload(task, upload, report if attempt == 1 else lambda _: report(0))
        except MemoryError as error:
            raise UserError(
                f"{task.site.at(task.tar_name)}: this machine has no memory left to send it;"
                " run again, with fewer --workers"
            ) from error
        except storage.LostUploadError:
            # A pack that begins takes what is under way here for what a killed one has left.
            if attempt == _TRIES:
                raise
        finally:
            upload.abandon()
    raise AssertionError


def _write_by_upload(task: ShardTask, upload: Upload, report: Report) -> ShardResult:
    size = sum(source.size for source in task.sources)
    if task.format == "keep" and not task.convert and size > upload.most:
        raise UserError(
            f"{task.site.at(task.tar_name)}: {size / 1e9:.0f} GB are more than the {upload.most / 1e9:.0f} GB"
            " that can be sent while they are made; give fewer --utterances-per-shard"
        )
    result, index_data = _made(task, upload, report, upload.stop)
    if result.entry is not None:
        pack_claim.require(task.site, task.plan)
        _publish(upload, report)
        task.site.publish(task.index_name, index_data)
    return result


def _publish(upload: Upload, report: Report) -> None:
    """Publish it in another thread, so that `report`, or Ctrl-C, can stop this one while it waits."""
    with ThreadPoolExecutor(1, thread_name_prefix="publish") as thread:
        try:
            published = thread.submit(upload.publish)
            while not wait([published], _POLL_S).done:
                report(0)
        except BaseException:
            upload.stop()
            raise
    published.result()


def _write_by_scratch(task: ShardTask, report: Report) -> ShardResult:
    temporary = os.path.join(task.scratch, task.tar_name)
    try:
        with open(temporary, "wb", buffering=0) as file:
            result, index_data = _made(task, file, report)
        if result.entry is None:
            return result
        pack_claim.require(task.site, task.plan)
        task.site.take(temporary, task.tar_name)
    except OSError as error:
        raise storage.StorageError(explain(error, temporary)) from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    task.site.publish(task.index_name, index_data)
    return result


def _made(
    task: ShardTask, file: Writable, report: Report, stop: Callable[[], object] = lambda: None
) -> tuple[ShardResult, bytes]:
    """Write the tar to `file`: (what it is, or why it must not be published; its index); see `build`."""
    index, problems, clipped = build(task, file, report, stop)
    if index is None:
        return ShardResult(None, problems, clipped), b""
    index_data = index_file.to_bytes(index)
    entry = entry_of(task.tar_name, task.index_name, index, index_data)
    if task.promised is not None and entry != task.promised:
        problem = (
            f"{task.site.at(task.tar_name)}: made again it is not what the manifest promises: a file of it"
            " has changed since; make-shards verify --repair tells which"
        )
        return ShardResult(None, [problem], clipped), b""
    return ShardResult(entry, [], clipped), index_data


def suits_threads(tasks: Sequence[ShardTask], workers: int) -> bool:
    """Whether `workers` threads make these shards sooner than as many processes, which start slowly.

    Reading, summing, hashing and writing leave the interpreter to others. What is done in Python for each
    file does not, nor does an encoder, which hands its bytes to Python: with these, with small files, or with
    many workers, that decides.
    """
    files = sum(len(task.sources) for task in tasks)
    size = sum(source.size for task in tasks for source in task.sources)
    return (
        workers <= _MOST_THREADS
        and size >= _LARGE_FILE * files
        and not any(task.convert or task.format != "keep" for task in tasks)
    )
