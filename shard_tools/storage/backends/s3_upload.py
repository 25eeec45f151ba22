"""An object of S3 that is sent in parts while it is made.

Nothing of it can be seen until all parts are there and the store is told to make one object of them. Each
part goes with its MD5 (Content-MD5), by which the store refuses what arrives as other bytes, and the MD5 that
it then names (the ETag) is compared too, where it is one: of objects under a customer's key it is not.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Semaphore
from typing import Any, TypeVar

from shard_tools.storage.backends.fsspec_errors import error_code, judge
from shard_tools.storage.errors import LostUploadError, StorageError, WrongAnswerError
from shard_tools.storage.retries import guarded

logger = logging.getLogger(__name__)

# Parts are of this size, and so many are under way at once: what an upload holds in memory is one part more.
UPLOAD_PART = 16 * 2**20
UPLOAD_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000  # S3's own bound

Result = TypeVar("Result")


@dataclass(frozen=True)
class _Part:
    md5: bytes
    etag: str


class S3Upload:
    """The verbs are those of `contract.Upload`. fs: an S3FileSystem; path: in it."""

    def __init__(self, fs: Any, path: str, url: str) -> None:
        bucket, key, _ = fs.split_path(path)
        self._fs, self._url = fs, url
        self._object = {"Bucket": bucket, "Key": key}
        self._waiting = bytearray()
        self._size = 0
        self._id: str | None = None
        self._failure: BaseException | None = None
        self._parts: list[Future[_Part]] = []
        self._places = Semaphore(UPLOAD_PARTS_AT_ONCE)
        self._threads = ThreadPoolExecutor(UPLOAD_PARTS_AT_ONCE, thread_name_prefix="upload")

    def write(self, data: bytes | memoryview) -> int:
        """Waits while as many parts as may be are under way; raises what kept an earlier one from going."""
        self._waiting += data
        self._size += len(data)
        while len(self._waiting) >= UPLOAD_PART:
            part = bytes(memoryview(self._waiting)[:UPLOAD_PART])
            del self._waiting[:UPLOAD_PART]
            self._begin_part(part)
        return len(data)

    def flush(self) -> None:
        """As files have it; what is not a whole part yet waits on."""

    def publish(self) -> None:
        if self._id is None:
            self._ask(lambda: self._put(bytes(self._waiting)))
            return
        if self._waiting:
            self._begin_part(bytes(self._waiting))
            self._waiting.clear()
        parts = [part.result() for part in self._parts]
        numbered = [{"PartNumber": number, "ETag": part.etag} for number, part in enumerate(parts, 1)]
        answer = self._ask(lambda: self._complete(numbered))
        md5 = hashlib.md5(b"".join(part.md5 for part in parts), usedforsecurity=False).hexdigest()
        self._id = None
        self._require(answer, f"{md5}-{len(parts)}")

    def abandon(self) -> None:
        """A failure is but a warning: whoever abandons has a reason of more weight."""
        for part in self._parts:
            part.cancel()
        self._threads.shutdown(wait=True)
        if self._id is None:
            return
        try:
            self._ask(lambda: self._call("abort_multipart_upload", UploadId=self._id))
        except LostUploadError:
            pass
        except StorageError as error:
            logger.warning("%s; what was sent of it stays until its upload is aborted", error)
        self._id = None

    def _begin_part(self, data: bytes) -> None:
        if self._id is None:
            self._id = self._ask(lambda: self._call("create_multipart_upload"))["UploadId"]
        number = len(self._parts) + 1
        if number > _MOST_PARTS:
            raise StorageError(
                f"{self._url}: more than the {_MOST_PARTS * UPLOAD_PART / 1e9:.0f} GB that an upload can"
                " hold; give fewer --utterances-per-shard"
            )
        self._places.acquire()
        if self._failure is not None:
            self._places.release()
            raise self._failure
        self._parts.append(self._threads.submit(self._send, number, data))

    def _send(self, number: int, data: bytes) -> _Part:
        try:
            md5 = hashlib.md5(data, usedforsecurity=False).digest()
            return self._ask(lambda: self._put_part(number, data, md5))
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._places.release()

    def _put_part(self, number: int, data: bytes, md5: bytes) -> _Part:
        encoded = base64.b64encode(md5).decode()
        answer = self._call(
            "upload_part", UploadId=self._id, PartNumber=number, Body=data, ContentMD5=encoded
        )
        _require_md5(answer, md5.hex())
        return _Part(md5, answer["ETag"])

    def _put(self, data: bytes) -> None:
        md5 = hashlib.md5(data, usedforsecurity=False).digest()
        answer = self._call("put_object", Body=data, ContentMD5=base64.b64encode(md5).decode())
        _require_md5(answer, md5.hex())

    def _complete(self, parts: list[dict[str, Any]]) -> dict[str, Any]:
        try:
            return self._call(
                "complete_multipart_upload", UploadId=self._id, MultipartUpload={"Parts": parts}
            )
        except OSError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            # An earlier try may have completed it, whose answer was lost: then all of it is there.
            found = self._head()
            if found is None or found["ContentLength"] != self._size:
                raise
            return found

    def _head(self) -> dict[str, Any] | None:
        try:
            return self._call("head_object")
        except FileNotFoundError:
            return None

    def _require(self, answer: dict[str, Any], etag: str) -> None:
        """Raise StorageError unless the object is the one that was sent."""
        found = self._ask(self._head)
        size = None if found is None else found["ContentLength"]
        if size != self._size:
            raise StorageError(
                f"{self._url}: {self._size} bytes were sent, and the store has {size}; try again"
            )
        named = str(answer.get("ETag", "")).strip('"')
        if re.fullmatch(r"[0-9a-f]{32}-\d+", named) and not _encrypted(answer) and named != etag:
            raise StorageError(
                f"{self._url}: the store has put together other bytes than were sent (its ETag is {named},"
                f" not {etag}); try again"
            )

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._fs.call_s3(method, **self._object, **parameters)
        return answer

    def _ask(self, request: Callable[[], Result]) -> Result:
        try:
            return guarded(self._url, request, lambda error: judge(error, self._url))
        except StorageError as error:
            if error.__cause__ is not None and error_code(error.__cause__) == "NoSuchUpload":
                raise LostUploadError(
                    f"{self._url}: its upload was broken off by another process that makes the same;"
                    " wait until that ends"
                ) from error
            raise


def abort_uploads(fs: Any, path: str, url: str, ours: Callable[[str], bool]) -> list[str]:
    """Abort all uploads that were begun, and not ended, directly below `path` under names that are `ours`.

    Returns these names. Where that is not allowed there is a warning, and []: what stays costs storage alone.
    """
    bucket, key, _ = fs.split_path(path)
    prefix = key.rstrip("/") + "/" if key else ""
    names: list[str] = []
    try:
        for upload in _uploads(fs, bucket, prefix):
            name = upload["Key"][len(prefix) :]
            if ours(name):
                names.append(name)
                with contextlib.suppress(FileNotFoundError):  # another has done it
                    place = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    fs.call_s3("abort_multipart_upload", **place)
    except Exception as error:
        verdict = judge(error, url)
        if verdict.passing or verdict.missing == "bucket":
            raise
        logger.warning("%s: uploads that were begun there could not be aborted: %s", url, verdict.advice)
    return names


def _uploads(fs: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """What S3 says of the uploads under way of keys that begin with `prefix`."""
    after: dict[str, str] = {}
    while True:
        answer = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix, **after)
        yield from (upload for upload in answer.get("Uploads") or [] if upload["Key"].startswith(prefix))
        if not answer.get("IsTruncated"):
            return
        after = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}


def _require_md5(answer: dict[str, Any], md5: str) -> None:
    named = str(answer.get("ETag", "")).strip('"')
    if re.fullmatch(r"[0-9a-f]{32}", named) and not _encrypted(answer) and named != md5:
        raise WrongAnswerError(f"the store has other bytes than were sent: their MD5 is {named}, not {md5}")


def _encrypted(answer: dict[str, Any]) -> bool:
    """Whether the object's ETag is no MD5: it is under a key of the customer's, or in a directory bucket."""
    return str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or any(
        name in answer for name in ("SSECustomerAlgorithm", "BucketKeyEnabled")
    )
