"""An object of S3 that is sent in parts while it is made.

Nothing of it can be seen until all parts are there and the store is told to make one object of them. Each
part goes with its MD5 (Content-MD5), by which the store refuses what arrives as other bytes, and the MD5 that
it then names (the ETag) is compared too, where it is one: of objects under a customer's key it is not.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import logging
import re
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Event, Lock, Semaphore
from typing import Any, TypeVar

from shard_tools.storage.backends.fsspec_errors import error_code, judge
from shard_tools.storage.errors import LostUploadError, StorageError, WrongAnswerError
from shard_tools.storage.retries import guarded
from shard_tools.threads import awaited, patiently

logger = logging.getLogger(__name__)

# Parts are of this size, and so many are under way at once: what an upload holds in memory is one part more.
UPLOAD_PART = 16 * 2**20
UPLOAD_PARTS_AT_ONCE = 4
_MOST_PARTS = 10_000  # S3's own bound
_TRIES_TO_ABORT = 2
_ABORT_TIMEOUT_S = 5.0  # someone waits for the end, perhaps of a store that does not answer

Result = TypeVar("Result")

_ARRIVES_WRONG = "what is sent does not arrive whole there: the store, or a proxy before it, changes it"


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
        self._stopped = Event()
        self._lock = Lock()  # of _stopped and _requests
        self._requests: set[Future[dict[str, Any]]] = set()

    @property
    def most(self) -> int:
        return _MOST_PARTS * UPLOAD_PART

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
        parts = [awaited(part) for part in self._parts]
        answer = self._ask(lambda: self._complete(parts))
        self._id = None
        self._require(parts, answer)

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            requests = list(self._requests)
        for request in requests:
            request.cancel()

    def abandon(self) -> None:
        """A failure is but a warning: whoever abandons has a reason of more weight."""
        self.stop()
        for part in self._parts:
            part.cancel()
        self._threads.shutdown(wait=True)
        if self._id is None:
            return
        upload, self._id = self._id, None
        try:
            guarded(
                self._url,
                lambda: self._call("abort_multipart_upload", UploadId=upload),
                lambda error: replace(judge(error, self._url), tries=_TRIES_TO_ABORT),
            )
        except StorageError as error:
            if not _is_lost(error):
                logger.warning("%s; what was sent of it stays until its upload is aborted", error)

    def _begin_part(self, data: bytes) -> None:
        if self._id is None:
            self._id = self._ask(lambda: self._call("create_multipart_upload"))["UploadId"]
        number = len(self._parts) + 1
        if number > _MOST_PARTS:
            raise StorageError(
                f"{self._url}: more than the {self.most / 1e9:.0f} GB that an upload can"
                " hold; give fewer --utterances-per-shard"
            )
        patiently(lambda seconds: self._places.acquire(timeout=seconds))
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
        answer = self._call_with_md5("upload_part", data, md5, UploadId=self._id, PartNumber=number)
        return _Part(md5, answer["ETag"])

    def _put(self, data: bytes) -> None:
        self._call_with_md5("put_object", data, hashlib.md5(data, usedforsecurity=False).digest())

    def _call_with_md5(self, method: str, data: bytes, md5: bytes, **parameters: Any) -> dict[str, Any]:
        """Raises WrongAnswerError where the store finds, or has, other bytes."""
        encoded = base64.b64encode(md5).decode()
        try:
            answer = self._call(method, **parameters, Body=data, ContentMD5=encoded)
        except OSError as error:
            if error_code(error) != "BadDigest":
                raise
            raise WrongAnswerError("the store found other bytes than were sent", _ARRIVES_WRONG) from error
        named = _bare(answer.get("ETag"))
        if re.fullmatch(r"[0-9a-f]{32}", named) and not _encrypted(answer) and named != md5.hex():
            raise WrongAnswerError(
                f"the store has other bytes than were sent: their MD5 is {named}, not {md5.hex()}",
                _ARRIVES_WRONG,
            )
        return answer

    def _complete(self, parts: Sequence[_Part]) -> dict[str, Any]:
        numbered = [{"PartNumber": number, "ETag": part.etag} for number, part in enumerate(parts, 1)]
        try:
            return self._call(
                "complete_multipart_upload", UploadId=self._id, MultipartUpload={"Parts": numbered}
            )
        except OSError as error:
            if error_code(error) != "NoSuchUpload":
                raise
            # An earlier try may have completed it, whose answer was lost; or another has aborted it, and an
            # older object lies there. Where ETags do not tell them apart, it is sent again.
            found = self._head()
            if found is None or found["ContentLength"] != self._size:
                raise
            if _bare(found.get("ETag")) != _etag_of(parts):
                raise
            return found

    def _head(self) -> dict[str, Any] | None:
        try:
            return self._call("head_object")
        except FileNotFoundError:
            return None

    def _require(self, parts: Sequence[_Part], answer: dict[str, Any]) -> None:
        """Raise StorageError unless the object is of the size that was sent.

        Each part's bytes have been looked at. The ETag of the whole decides nothing: some stores (SeaweedFS,
        any under a customer's key) make another one of the same parts.
        """
        found = self._ask(self._head)
        size = None if found is None else found["ContentLength"]
        if size != self._size:
            raise StorageError(
                f"{self._url}: {self._size} bytes were sent, and the store has {size}; try again"
            )
        named, etag = _bare(answer.get("ETag")), _etag_of(parts)
        if (
            all(_bare(part.etag) == part.md5.hex() for part in parts)
            and re.fullmatch(rf"[0-9a-f]{{32}}-{len(parts)}", named)
            and named != etag
            and not _encrypted(answer)
        ):
            _tell_of_other_etags(self._object["Bucket"])

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One request, which `stop` breaks off; after it there are none but aborting, which is not waited for
        long."""
        with self._lock:
            stopped = self._stopped.is_set()
            if stopped and method != "abort_multipart_upload":
                raise self._broken_off()
            request = asyncio.run_coroutine_threadsafe(
                self._fs._call_s3(method, **self._object, **parameters), self._fs.loop
            )
            self._requests.add(request)
        try:
            return request.result(_ABORT_TIMEOUT_S) if stopped else awaited(request)
        except CancelledError:
            raise self._broken_off() from None
        finally:
            request.cancel()  # of what is done, nothing
            self._requests.discard(request)

    def _ask(self, request: Callable[[], Result]) -> Result:
        def unless_stopped() -> Result:
            if self._stopped.is_set():
                raise self._broken_off()
            return request()

        try:
            return guarded(
                self._url, unless_stopped, lambda error: judge(error, self._url), wait=self._stopped.wait
            )
        except StorageError as error:
            if _is_lost(error):
                raise LostUploadError(
                    f"{self._url}: its upload was broken off by another process that makes the same;"
                    " wait until that ends"
                ) from error
            raise

    def _broken_off(self) -> StorageError:
        return StorageError(f"{self._url}: its upload was stopped before it was complete")


def _is_lost(error: StorageError) -> bool:
    return error.__cause__ is not None and error_code(error.__cause__) == "NoSuchUpload"


def _bare(etag: object) -> str:
    return str(etag or "").strip('"')


def _etag_of(parts: Sequence[_Part]) -> str | None:
    """What S3 calls an object of these parts; None where their own names are no hashes."""
    names = [_bare(part.etag) for part in parts]
    if not all(re.fullmatch(r"[0-9a-f]{32}", name) for name in names):
        return None
    joined = bytes.fromhex("".join(names))
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"


@functools.cache
def _tell_of_other_etags(bucket: str) -> None:
    """Once is enough."""
    logger.warning(
        "s3://%s: the ETags of what is sent in parts are not made as S3 makes them; each part and the size"
        " are what was sent, and make-shards verify reads the whole",
        bucket,
    )


def _encrypted(answer: dict[str, Any]) -> bool:
    """Whether the object's ETag is no MD5: it is under a key of the customer's, or in a directory bucket."""
    return str(answer.get("ServerSideEncryption", "")).startswith("aws:kms") or any(
        name in answer for name in ("SSECustomerAlgorithm", "BucketKeyEnabled")
    )
