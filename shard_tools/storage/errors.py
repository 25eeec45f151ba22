"""What went wrong with storage: which errors pass by themselves, and a line of advice for the others."""

from __future__ import annotations

import errno
import logging
import random
import time
from collections.abc import Callable, Iterator
from http.client import IncompleteRead
from typing import TypeVar

from shard_tools.errors import UserError
from shard_tools.storage.policy import current_policy

logger = logging.getLogger(__name__)

# A refused connection is more likely a wrong address than a passing trouble: fewer tries.
ATTEMPTS_TO_CONNECT = 4

_TRANSIENT_CODES = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "InternalError", "ServiceUnavailable"}
    | {"XAmzContentSHA256Mismatch", "TooManyRequests", "OperationAborted"}
)
# Named, not imported: botocore and aiohttp load slowly and only S3 needs them.
_TRANSIENT_CLASSES = frozenset(
    {"HTTPClientError", "EndpointConnectionError", "ConnectTimeoutError", "ResponseParserError"}
    | {"ClientPayloadError", "ClientConnectionError", "FSTimeoutError"}
)
_TRANSIENT_ERRNOS = frozenset({errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT, errno.ECONNRESET})
_REFUSED_CODES = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"})
_CREDENTIAL_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
    | {"AuthorizationHeaderMalformed"}
)

Result = TypeVar("Result")


class StorageError(UserError):
    """Bytes could not be read or written; the text names the URL and says what to check."""


class MissingError(StorageError):
    """There is nothing at the URL; `bucket` is true when not even the bucket exists."""

    def __init__(self, text: str, *, bucket: bool = False) -> None:
        super().__init__(text)
        self.bucket = bucket


class ShortError(StorageError):
    """An object ends before what was to be read of it does; `size` is where it ends, as far as is known."""

    def __init__(self, text: str, *, size: int = 0) -> None:
        super().__init__(text)
        self.size = size


class WrongAnswerError(ConnectionError):
    """A store answered with other bytes than those it was asked for; asked again, it may do better."""


def with_retries(operation: Callable[[], Result], url: str) -> Result:
    """Run `operation`, again after a wait while it fails with an error that may pass, as the policy says.

    Waits double and are jittered to between half and the whole, so that many
    workers which failed together do not come back together.
    """
    attempt = 0
    while True:
        try:
            return operation()
        except Exception as error:
            attempt += 1
            allowed = current_policy().attempts
            if _has_class(error, "EndpointConnectionError"):
                allowed = min(allowed, ATTEMPTS_TO_CONNECT)
            if attempt >= allowed or not is_transient(error):
                raise
            wait = current_policy().first_wait_s * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
            log = logger.warning if attempt > 2 else logger.info
            log("%s: %s; try %d of %d in %.1f s", url, _brief(error), attempt + 1, allowed, wait)
            time.sleep(wait)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may well succeed a little later: time-outs, resets, throttling, 5xx."""
    status, code = _http_status(error), error_code(error)
    if code in _TRANSIENT_CODES or (status is not None and status >= 500 and status != 501):
        return True
    if code is not None:
        return False
    for link in _chain(error):
        if isinstance(link, (TimeoutError, ConnectionError, IncompleteRead)):
            return True
        if isinstance(link, OSError) and link.errno in _TRANSIENT_ERRNOS:
            return True
    return any(_has_class(error, name) for name in _TRANSIENT_CLASSES)


def is_missing(error: BaseException) -> str | None:
    """ "bucket" when the bucket does not exist, "object" when there is nothing at the URL, else None."""
    code = error_code(error)
    if code == "NoSuchBucket":
        return "bucket"
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) or code in ("NoSuchKey", "404"):
        return "object"
    return None


def error_code(error: BaseException) -> str | None:
    """S3's word for what went wrong, such as "SlowDown"; None where the store has not spoken."""
    response = _response(error)
    code = response.get("Error", {}).get("Code") if response else None
    return str(code) if code is not None else None


def explain(error: BaseException, url: str) -> str:
    """One line: the URL, what was found, and what to check."""
    return f"{url}: {_advice(error, url)}"


def _advice(error: BaseException, url: str) -> str:
    code = error_code(error)
    missing = is_missing(error)
    if missing == "bucket":
        bucket = url.partition("://")[2].partition("/")[0]
        return f"there is no bucket {bucket!r}; create it, or check its name and AWS_ENDPOINT_URL"
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return "a file is where a folder should be; give another place"
    if missing:
        return "does not exist"
    if any(_has_class(error, name) for name in ("NoCredentialsError", "PartialCredentialsError")):
        return (
            "no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE;"
            " for a bucket that is open to everyone, FSSPEC_S3_ANON=true"
        )
    if code in _CREDENTIAL_CODES:
        return f"the store does not accept the AWS credentials ({code}); check them and this machine's clock"
    if code in _REFUSED_CODES or (isinstance(error, PermissionError) and "://" in url):
        reason = code or _brief(error)
        return f"access refused ({reason}); check that the AWS credentials may read and write there"
    if isinstance(error, PermissionError):
        return "permission denied; check the owner and mode of the file and its folder"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return f"no space left on the disk{where}; free some, or choose another place"
    if isinstance(error, ImportError):
        return f"{error}; install the package that opens this kind of URL"
    if isinstance(error, ValueError) and "Protocol not known" in str(error):
        return "unknown kind of URL; give a path, file://, s3://bucket/prefix, or what fsspec opens"
    if _has_class(error, "EndpointConnectionError"):
        return f"cannot connect ({_brief(error)}); check AWS_ENDPOINT_URL and the network"
    if isinstance(error, WrongAnswerError):
        times = current_policy().attempts
        return f"{error}, {times} times; whatever answers there cannot serve parts of objects"
    if is_transient(error):
        tries = current_policy().attempts
        return f"gave up after {tries} tries ({_brief(error)}); the store is out of reach or overloaded"
    return f"{_brief(error)}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes: s3fs translates botocore's errors and keeps them as `__cause__`."""
    link: BaseException | None = error
    for _ in range(8):
        if link is None:
            return
        yield link
        link = link.__cause__


def _has_class(error: BaseException, name: str) -> bool:
    return any(kind.__name__ == name for link in _chain(error) for kind in type(link).__mro__)


def _response(error: BaseException) -> dict[str, dict[str, object]] | None:
    for link in _chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return response
    return None


def _http_status(error: BaseException) -> int | None:
    response = _response(error)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if response else None
    return status if isinstance(status, int) else None


def _brief(error: BaseException) -> str:
    """The error's own words on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join(str(error).split()).partition("?")[0]  # without the query of a URL
    return f"{type(error).__name__}: {words[:200]}" if words else type(error).__name__
