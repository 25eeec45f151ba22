"""Uploads to S3 that were begun and neither ended nor aborted, as by a process that was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


def abort_uploads(fs: Any, path: str, ours: Callable[[str], bool]) -> list[str]:
    """Abort all uploads under way directly below `path` under names that are `ours`; returns these names."""
    bucket, key, _ = fs.split_path(path)
    prefix = key.rstrip("/") + "/" if key else ""
    names: list[str] = []
    for upload in _uploads(fs, bucket, prefix):
        name = upload["Key"][len(prefix) :]
        if ours(name):
            names.append(name)
            with contextlib.suppress(FileNotFoundError):  # another has done it
                place = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                fs.call_s3("abort_multipart_upload", **place)
    return names


def _uploads(fs: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """What S3 says of the uploads under way of keys that begin with `prefix`."""
    after: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **after)
        yield from (upload for upload in answer.get("Uploads") or [] if upload["Key"].startswith(prefix))
        before, after = (
            after,
            {
                marker: answer[f"Next{marker}"]
                for marker in ("KeyMarker", "UploadIdMarker")
                if answer.get(f"Next{marker}")
            },
        )
        if not answer.get("IsTruncated") or after in ({}, before):  # some stores name the same page for ever
            return
