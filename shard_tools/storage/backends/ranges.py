"""Exactly a range of a remote object, or an error: an answer with other bytes does not pass.

fsspec hands on whatever bytes came. Of S3 the answer's header is looked at before
its body is read, so that a server that ignores ranges costs no gigabyte.
"""

from __future__ import annotations

import re
from typing import Any

from fsspec.asyn import sync

from shard_tools.storage import etags
from shard_tools.storage.backends.fsspec_errors import error_code
from shard_tools.storage.errors import ShortError, StorageError, WrongAnswerError


def fetch_range(fs: Any, path: str, start: int, end: int, size: int, url: str) -> bytes:
    """Bytes [start, end), not empty, of the object at `path`, which should have `size` bytes.

    Raises ShortError where it has fewer than `end`, StorageError where it has another size,
    ReplacedError where its ETag is not that of an earlier answer, WrongAnswerError for other bytes than
    asked for, and what the filesystem raises.
    """
    if "s3" in fs.protocol:
        data: bytes = sync(fs.loop, _fetch_s3, fs, path, start, end, size, url)
    else:
        data = fs.cat_file(path, start=start, end=end)
    if len(data) < end - start:
        raise ShortError(_short(url, start + len(data), size), size=start + len(data))
    if len(data) > end - start:
        raise WrongAnswerError(f"{len(data)} bytes came when bytes {start} to {end} were asked for")
    return data


async def _fetch_s3(fs: Any, path: str, start: int, end: int, size: int, url: str) -> bytes:
    bucket, key, _ = fs.split_path(path)
    tag = etags.known(url)
    condition = {} if tag is None else {"IfMatch": tag}
    try:
        answer = await fs._call_s3(
            "get_object", Bucket=bucket, Key=key, Range=f"bytes={start}-{end - 1}", **condition
        )
    except OSError as error:
        code = error_code(error)
        if code in ("InvalidRange", "416"):
            raise ShortError(_short(url, start, size), size=start) from error
        if code in ("PreconditionFailed", "412"):
            raise etags.replaced(url) from error
        raise
    body = answer["Body"]
    try:
        etags.require(url, answer.get("ETag"))
        found = answer.get("ContentRange")
        if found is None:
            raise WrongAnswerError(f"the whole object came when bytes {start} to {end} were asked for")
        places, _, total = found.removeprefix("bytes ").partition("/")
        if total.isdecimal() and int(total) < end:
            raise ShortError(_short(url, int(total), size), size=int(total))
        if total.isdecimal() and int(total) != size:
            raise StorageError(f"{url}: has {total} bytes, the manifest says {size}: it was packed anew")
        if places != f"{start}-{end - 1}":
            raise WrongAnswerError(f"{found} came when bytes {start} to {end} were asked for")
        data: bytes = await body.read()
    finally:
        body.close()
    if len(data) != end - start:
        raise WrongAnswerError(f"{len(data)} of {end - start} bytes came")
    return data


def fetch_part(fs: Any, path: str, start: int, end: int | None) -> bytes:
    """Bytes [start, end), not empty, of S3's object at `path`, or those that it has of them.

    Raises WrongAnswerError where others came, and what the filesystem raises.
    """
    data: bytes = sync(fs.loop, _fetch_part, fs, path, start, end)
    return data


async def _fetch_part(fs: Any, path: str, start: int, end: int | None) -> bytes:
    bucket, key, _ = fs.split_path(path)
    asked = f"bytes={start}-" + ("" if end is None else str(end - 1))
    try:
        answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, Range=asked)
    except OSError as error:
        if error_code(error) in ("InvalidRange", "416"):
            return b""
        raise
    body = answer["Body"]
    try:
        found = re.match(r"bytes (\d+)-(\d+)/", answer.get("ContentRange") or "")
        if found is None:
            raise WrongAnswerError(f"the whole object came when {asked} was asked for")
        first, last = int(found[1]), int(found[2])
        if first != start or (end is not None and last >= end):
            raise WrongAnswerError(f"{found[0]} came when {asked} was asked for")
        data: bytes = await body.read()
    finally:
        body.close()
    if len(data) != last + 1 - first:
        raise WrongAnswerError(f"{len(data)} of {last + 1 - first} bytes came")
    return data


def _short(url: str, found: int, size: int) -> str:
    return f"{url}: ends at byte {found}, the manifest says {size}: it was cut short or packed anew"
