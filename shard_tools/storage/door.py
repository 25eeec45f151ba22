"""The one door to bytes at any URL that fsspec opens (a path, file://, s3://, memory://).

Reads are retried, and what is published is whole or absent.

Endpoint and credentials come from the AWS environment and config files alone.
A filesystem is asked for at every call: fsspec's instance cache is per process,
so nothing here is carried over a fork. All listings are fresh.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

from shard_tools.storage.errors import (
    MissingError,
    StorageError,
    explain,
    is_missing,
    with_retries,
)
from shard_tools.storage.policy import current_policy
from shard_tools.storage.ranges import fetch_range

# Large objects go up in parts of this size, so many at once: what an upload holds in memory is their product.
UPLOAD_PART = 16 * 2**20
UPLOAD_PARTS_AT_ONCE = 4
DOWNLOAD_PART = 16 * 2**20

# What `_beside` makes of a name.
_DRAFT = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part")

Result = TypeVar("Result")


def join(url: str, *names: str) -> str:
    """`url/name/name…`, whatever the kind of URL; a trailing slash of `url` does not matter."""
    folder = url if url.endswith("://") else url.rstrip("/") + "/"
    return folder + "/".join(names)


def local_path(url: str) -> str | None:
    """The path in this machine's file system when `url` is one, else None.

    "::" chains fsspec's filesystems where the first part names one of them; else it is part of a name.
    """
    scheme, separator, _ = url.partition("://")
    if separator:
        return str(LocalFileSystem._strip_protocol(url)) if scheme in ("file", "local") else None
    first, chained, _ = url.partition("::")
    return None if chained and first in known_implementations else url


def kind(path: str) -> Literal["file", "folder", "other"] | None:
    """What lies at `path` on this machine; "other" is a device or a pipe, None is nothing.

    Raises StorageError where the system cannot say: no permission, a disk out of reach.
    """
    try:
        mode = _guard(path, lambda: os.stat(path).st_mode)
    except MissingError:
        return None
    if stat.S_ISDIR(mode):
        return "folder"
    return "file" if stat.S_ISREG(mode) else "other"


def exists(url: str) -> bool:
    """Whether there is a file, object or folder at `url`."""
    try:
        _call(url, lambda fs, path: fs.info(path))
    except MissingError:
        return False
    return True


def size(url: str) -> int:
    """Bytes of the file or object at `url`. Raises MissingError when there is none."""
    return int(_call(url, lambda fs, path: fs.info(path)["size"]))


def modified(url: str) -> float:
    """When the file or object at `url` was last written, in seconds since 1970; S3 gives whole seconds."""
    path = local_path(url)
    if path is not None:
        return _guard(url, lambda: os.stat(path).st_mtime)
    return float(_call(url, lambda fs, path: fs.modified(path).timestamp()))


def read_bytes(url: str, start: int | None = None, end: int | None = None) -> bytes:
    """Bytes [start, end) of the object at `url`, or all of it; shorter when the object ends before `end`."""
    path = local_path(url)
    if path is None:
        data: bytes = _call(url, lambda fs, path: fs.cat_file(path, start=start, end=end))
        return data

    def read() -> bytes:
        with open(path, "rb") as file:
            if start:
                file.seek(start)
            return file.read() if end is None else file.read(max(end - (start or 0), 0))

    return _guard(url, read)


def read_range(url: str, start: int, end: int, size: int) -> bytes:
    """Exactly bytes [start, end), not empty, of the remote object at `url`, which should have `size` bytes.

    Raises ShortError when it has fewer than `end`, StorageError when it has another size
    or when the store still fails, or answers with other bytes, after all attempts.
    """
    data: bytes = _call(url, lambda fs, path: fetch_range(fs, path, start, end, size, url))
    return data


def read_many(urls: Sequence[str]) -> list[bytes]:
    """The bytes of many small objects, read concurrently, in the order of `urls`."""
    if len(urls) < 2 or local_path(urls[0]) is not None:
        return [read_bytes(url) for url in urls]
    with ThreadPoolExecutor(min(current_policy().connections, len(urls))) as threads:
        return list(threads.map(read_bytes, urls))


def fetch(url: str, local_file: str) -> None:
    """Copy the object at `url` to a local file, a part at a time."""
    total = size(url)
    with open(local_file, "wb") as file:
        for start in range(0, total, DOWNLOAD_PART):
            file.write(read_bytes(url, start, min(start + DOWNLOAD_PART, total)))


def list_names(url: str) -> list[str]:
    """Base names directly under a folder or prefix, sorted; [] when there is no such folder.

    A bucket that does not exist is a StorageError, not an empty list.
    """
    path = local_path(url)
    try:
        if path is not None:
            return sorted(_guard(url, lambda: os.listdir(path)))
        # An object store lists a "folder marker", and a file, as its own content.
        own, entries = _call(url, lambda fs, path: (path, fs.ls(path, detail=False)))
    except MissingError as error:
        if error.bucket:
            raise
        return []
    found = {entry.rstrip("/") for entry in entries} - {own.rstrip("/")}
    return sorted({entry.rsplit("/", 1)[-1] for entry in found})


def publish_bytes(url: str, data: bytes) -> None:
    """Put `data` at `url`, whole or not at all; what was there is replaced."""
    path = local_path(url)
    if path is None:
        _call(url, lambda fs, path: fs.pipe_file(path, data))
        return

    def write() -> None:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with _beside(path) as temporary:
            with open(temporary, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        _sync_folder(path)

    _guard(url, write)


def publish_file(local_file: str, url: str) -> None:
    """Put a local file at `url`, whole or not at all; the local file is gone afterwards."""
    path = local_path(url)
    if path is None:
        _call(url, lambda fs, path: fs.put_file(local_file, path, **_upload_options(fs)))
        os.unlink(local_file)
        return

    def move() -> None:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with _beside(path) as temporary:
            shutil.move(local_file, temporary)  # a rename where both lie on one file system, else a copy
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
        _sync_folder(path)

    # A retry would not find the file where it was.
    _guard(url, move, retry=False)


def remove(url: str) -> None:
    """Remove the file or object at `url`; it is fine when there is none."""
    path = local_path(url)
    with contextlib.suppress(MissingError):
        if path is not None:
            _guard(url, lambda: os.unlink(path))
        else:
            _call(url, lambda fs, path: fs.rm_file(path))


def remove_drafts(url: str, ours: Callable[[str], bool]) -> list[str]:
    """Remove what killed writers left under temporary names in the folder `url`; returns these names.

    ours: whether a file of this name, as it would have been published, is of those to clear up after.
    Only where nobody else writes such files at the moment.
    """
    found = (_DRAFT.fullmatch(name) for name in list_names(url)) if local_path(url) is not None else ()
    drafts = [match[0] for match in found if match and ours(match["name"])]
    for name in drafts:
        remove(join(url, name))
    return drafts


@contextlib.contextmanager
def _beside(path: str) -> Any:
    """A name in the folder of `path` that no reader takes for a shard; what is left under it is removed."""
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _sync_folder(path: str) -> None:
    """Make a rename in the folder of `path` last through a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _upload_options(fs: Any) -> dict[str, Any]:
    if "s3" in _protocols(fs):
        return {"chunksize": UPLOAD_PART, "max_concurrency": UPLOAD_PARTS_AT_ONCE}
    return {}


def _protocols(fs: Any) -> tuple[str, ...]:
    return (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)


def _open_filesystem(url: str) -> tuple[Any, str]:
    local = local_path(url)
    if local is not None:
        return LocalFileSystem(), local
    first = url.partition("::")[0]
    if first != url and "://" not in first and first not in known_implementations:
        raise StorageError(
            f"{url}: '::' chains fsspec's kinds of URLs, and {first!r} is none; the path of a file whose name"
            " holds '::' must not hold '://' besides"
        )
    if url.startswith(("s3://", "s3a://")) and "?versionId=" in url:
        raise StorageError(
            f"{url}: names one version of an object, and the newest is what is read here; give the URL"
            " without ?versionId=, or a copy of that version"
        )
    if url.startswith(("s3://", "s3a://")):
        # Retrying is ours alone: botocore's and s3fs's own would multiply with it.
        # max_concurrency=1 makes a read one GET, instead of a HEAD and then GETs of 50 MiB.
        fs, path = url_to_fs(
            url,
            use_listings_cache=False,
            max_concurrency=1,
            config_kwargs={
                "max_pool_connections": current_policy().connections,  # 10 unless told
                "connect_timeout": current_policy().connect_timeout_s,
                "read_timeout": current_policy().read_timeout_s,
                "retries": {"total_max_attempts": 1},
            },
        )
        fs.retries = 1
        return fs, path
    return url_to_fs(url)


def _call(url: str, operation: Callable[[Any, str], Any]) -> Any:
    """Run `operation(filesystem, path)` with retries; whatever fails in the end is a StorageError."""

    def attempt() -> Any:
        fs, path = _open_filesystem(url)
        return operation(fs, path)

    return _guard(url, attempt)


def _guard(url: str, operation: Callable[[], Result], *, retry: bool = True) -> Result:
    try:
        return with_retries(operation, url) if retry else operation()
    except StorageError:
        raise
    except Exception as error:
        missing = is_missing(error)
        if missing is not None:
            raise MissingError(explain(error, url), bucket=missing == "bucket") from error
        raise StorageError(explain(error, url)) from error
