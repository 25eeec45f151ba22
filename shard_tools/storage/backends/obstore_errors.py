"""What obstore's errors mean: it says most in words alone, which become errors as botocore's are."""

from __future__ import annotations

import re
from typing import Any

from shard_tools.storage.backends import fsspec_errors
from shard_tools.storage.errors import Verdict, WrongAnswerError

_STATUS = re.compile(r"status code: (\d{3}) ?([A-Za-z -]*)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_NO_TLS = re.compile(r"error: (InvalidCertificate|InvalidMessage)\(\s*(\w+)")
_KIND = re.compile(r"kind: (Connect|Timeout|Interrupted|Request|Decode|Unknown)\b")
_WRONG = re.compile(r"Requested [\d.]+, got [\d.]+|non-partial response|Content-Range|content range", re.I)
_CODES = {"ContainerNotFound": "NoSuchBucket", "BlobNotFound": "NoSuchKey"}  # Azure's words for S3's


class AnswerError(OSError):
    """A store has refused a request; `response` is laid out as botocore lays it out."""

    def __init__(self, status: int, words: str, code: str | None) -> None:
        super().__init__(f"{status} {words}".strip() + (f" ({code})" if code else ""))
        self.status = status
        self.response: dict[str, dict[str, Any]] = {
            "Error": {"Code": code or str(status)},
            "ResponseMetadata": {"HTTPStatusCode": status},
        }


class UnreachableError(ConnectionError):
    """No connection could be made."""


class SSLError(OSError):
    """Who answers is not who was to be asked, for all that its certificate says; named as botocore's is."""


def translated(error: BaseException) -> BaseException:
    """The same by kind: an error of those above, ConnectionError, TimeoutError or WrongAnswerError.

    What is of none, or Python's own, is returned as it is.
    """
    if type(error).__module__ == "builtins" and not isinstance(error, (FileNotFoundError, ValueError)):
        return error
    words = str(error)
    status = _STATUS.search(words)
    if status is not None:
        code = _CODE.search(words)
        name = _CODES.get(code[1], code[1]) if code else None
        if isinstance(error, FileNotFoundError) and name != "NoSuchBucket":
            return error
        return AnswerError(int(status[1]), status[2].strip(), name)
    if isinstance(error, (FileNotFoundError, ValueError)):
        return error
    if "StartTooLarge" in words:  # as those of obstore's stores say it that are none of the network
        return AnswerError(416, "Range Not Satisfiable", "InvalidRange")
    if type(error).__name__ == "PreconditionError":
        return AnswerError(412, "Precondition Failed", "PreconditionFailed")
    first = words.partition("\n")[0]
    if "redirect without LOCATION" in first:  # as S3 answers who asks for a bucket in the wrong region
        return AnswerError(301, "Moved Permanently", "PermanentRedirect")
    if _WRONG.search(first):
        return WrongAnswerError(first.partition(" error: ")[2] or first)
    tls = _NO_TLS.search(words)
    if tls is not None:
        return SSLError(tls[2]) if tls[1] == "InvalidCertificate" else UnreachableError("it speaks no TLS")
    kind = _KIND.search(words)
    if kind is None:
        return error
    innermost = re.findall(r'(?:message|error): "?([\w ()]+)"?,', words)
    reason = innermost[-1].strip() if innermost else first.rpartition(": ")[2]
    if kind[1] == "Connect":
        return UnreachableError(reason)
    return TimeoutError(first) if kind[1] == "Timeout" else ConnectionError(reason)


def judge(error: BaseException, url: str) -> Verdict:
    """What an error means that `translated` has made of one, or that botocore has raised."""
    if isinstance(error, UnreachableError):
        advice = f"cannot connect ({error}); check AWS_ENDPOINT_URL and the network"
        advice = fsspec_errors.in_words_of(url, advice)
        return Verdict(advice, passing=True, tries=fsspec_errors.TRIES_TO_CONNECT)
    verdict = fsspec_errors.judge(error, url)
    if fsspec_errors.error_code(error) in fsspec_errors.EXPIRED:
        return Verdict(verdict.advice, passing=True, tries=2)
    return verdict
