"""Every kind of URL that fsspec opens: s3://, memory://, http://, and so on.

Endpoint and credentials come from the AWS environment and config files alone.
A filesystem is asked for at every call: fsspec's instance cache is per process,
so nothing here is carried over a fork. All listings are fresh.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from fsspec.core import url_to_fs
from fsspec.registry import known_implementations

from shard_tools.storage.backends.fsspec_errors import EXPIRED, error_code, judge, needs_others
from shard_tools.storage.backends.ranges import fetch_part, fetch_range
from shard_tools.storage.backends.s3_leftovers import abort_uploads
from shard_tools.storage.backends.s3_upload import UPLOAD_PART, UPLOAD_PARTS_AT_ONCE, S3Upload
from shard_tools.storage.errors import StorageError, Verdict
from shard_tools.storage.policy import current_policy


@dataclass(frozen=True)
class FsspecPlace:
    """An object, or what passes for a folder, at a URL. Its verbs are those of `contract.Place`."""

    url: str

    moves: ClassVar[bool] = False
    at_once: ClassVar[int] = 32
    lets_signals_in: ClassVar[bool] = True

    def judge(self, error: BaseException) -> Verdict:
        verdict = judge(error, self.url)
        if needs_others(error):
            _forget_filesystems()
        if error_code(error) in EXPIRED:
            return replace(verdict, passing=True, tries=2)
        return verdict

    def check(self) -> None:
        fs, path = open_filesystem(self.url)
        fs.info(path)

    def size(self) -> int:
        fs, path = open_filesystem(self.url)
        return int(fs.info(path)["size"])

    def modified(self) -> float:
        """S3 gives whole seconds."""
        fs, path = open_filesystem(self.url)
        return float(fs.modified(path).timestamp())

    def read(self, start: int | None, end: int | None) -> bytes:
        fs, path = open_filesystem(self.url)
        if end is not None and end <= (start or 0):
            fs.info(path)  # HTTP has no empty range: s3fs would ask for, and hand on, the whole object
            return b""
        if (start or end is not None) and _is_s3(fs):
            return fetch_part(fs, path, start or 0, end)
        data: bytes = fs.cat_file(path, start=start, end=end)
        return data

    def read_exactly(self, start: int, end: int, size: int) -> bytes:
        fs, path = open_filesystem(self.url)
        return fetch_range(fs, path, start, end, size, self.url)

    def names(self) -> list[str]:
        fs, path = open_filesystem(self.url)
        # An object store lists a "folder marker", and a file, as its own content.
        found = {entry.rstrip("/") for entry in fs.ls(path, detail=False)} - {path.rstrip("/")}
        return list({entry.rsplit("/", 1)[-1] for entry in found})

    def write(self, data: bytes) -> None:
        fs, path = open_filesystem(self.url)
        fs.pipe_file(path, data)

    def take(self, local_file: str) -> None:
        fs, path = open_filesystem(self.url)
        fs.put_file(local_file, path, **_upload_options(fs))
        os.unlink(local_file)

    def upload(self) -> S3Upload | None:
        fs, path = open_filesystem(self.url, own_checksums=True)
        return S3Upload(fs, path, self.url) if _is_s3(fs) else None

    def remove(self) -> None:
        fs, path = open_filesystem(self.url)
        fs.rm_file(path)

    def remove_drafts(self, ours: Callable[[str], bool]) -> list[str]:
        fs, path = open_filesystem(self.url)
        return abort_uploads(fs, path, ours) if _is_s3(fs) else []  # nothing else can be left


def open_filesystem(url: str, *, own_checksums: bool = False) -> tuple[Any, str]:
    """fsspec's filesystem for `url`, and the path in it. Raises StorageError for no kind of URL.

    own_checksums: whether what is sent comes with its MD5, so that S3's client need not add another sum.
    """
    first = url.partition("::")[0]
    if first != url and "://" not in first and first not in known_implementations:
        raise StorageError(
            f"{url}: '::' chains fsspec's kinds of URLs, and {first!r} is none; the path of a file whose name"
            " holds '::' must not hold '://' besides"
        )
    if not url.startswith(("s3://", "s3a://")):
        return url_to_fs(url)
    if "?versionId=" in url:
        raise StorageError(
            f"{url}: names one version of an object, and the newest is what is read here; give the URL"
            " without ?versionId=, or a copy of that version"
        )
    # Retrying is ours alone: botocore's and s3fs's own would multiply with it.
    # max_concurrency=1 makes a read one GET, instead of a HEAD and then GETs of 50 MiB.
    fs, path = url_to_fs(
        url,
        use_listings_cache=False,
        max_concurrency=1,
        config_kwargs={
            "max_pool_connections": current_policy().at_once(),  # 10 unless told
            "connect_timeout": current_policy().connect_timeout_s,
            "read_timeout": current_policy().read_timeout_s,
            "retries": {"total_max_attempts": 1},
            **(_without_checksums() if own_checksums else {}),
        },
    )
    fs.retries = 1
    return fs, path


def _without_checksums() -> dict[str, str]:
    """For botocore, which since 1.36 sums all that it sends.

    Over https the sum goes behind the data, and some stores take it for a part of what the MD5 is of.
    """
    from botocore.config import Config

    option = "request_checksum_calculation"
    return {option: "when_required"} if option in Config.OPTION_DEFAULTS else {}


def _forget_filesystems() -> None:
    """Let the next ones look for credentials again: an S3FileSystem keeps those that it has found."""
    s3fs = sys.modules.get("s3fs")
    if s3fs is not None:
        s3fs.S3FileSystem.clear_instance_cache()


def _is_s3(fs: Any) -> bool:
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    return "s3" in protocols


def _upload_options(fs: Any) -> dict[str, Any]:
    if _is_s3(fs):
        return {"chunksize": UPLOAD_PART, "max_concurrency": UPLOAD_PARTS_AT_ONCE}
    return {}
