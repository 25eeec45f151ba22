"""What the errors of fsspec, s3fs and botocore mean; named by class, for importing these takes a second."""

from __future__ import annotations

from dataclasses import replace

from shard_tools.storage.errors import Missing, Verdict, WrongAnswerError, brief, chain, judge_system

# A refused connection is more likely a wrong address than a passing trouble: fewer tries.
TRIES_TO_CONNECT = 4

_PASSING_CODES = frozenset(
    {"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "InternalError", "ServiceUnavailable"}
    | {"XAmzContentSHA256Mismatch", "BadDigest", "TooManyRequests", "OperationAborted"}
)
_PASSING_CLASSES = frozenset(
    {"HTTPClientError", "EndpointConnectionError", "ConnectTimeoutError", "ResponseParserError"}
    | {"ClientPayloadError", "ClientConnectionError", "FSTimeoutError"}
)
_REFUSED_CODES = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "403"})
_CREDENTIAL_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
)
# After these the credentials are looked up anew, once: files may hold newer ones.
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"})
_WRONG_KEYS = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
_REGION_CODES = frozenset({"AuthorizationHeaderMalformed", "PermanentRedirect", "301"})
_GOOGLE = (
    ("the AWS credentials", "the credentials"),
    ("your credentials", "your credentials (GOOGLE_APPLICATION_CREDENTIALS)"),
    ("AWS_ENDPOINT_URL and the network", "the network"),
    (" and AWS_ENDPOINT_URL", ""),
)
_AZURE = (
    ("the AWS credentials", "the credentials"),
    ("your credentials", "your credentials (AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY)"),
    ("AWS_ENDPOINT_URL", "AZURE_STORAGE_ACCOUNT_NAME"),
    ("Install adlfs", "Set AZURE_STORAGE_ACCOUNT_NAME, or install adlfs,"),
)
_WORDS = {"gs": _GOOGLE, "gcs": _GOOGLE, "az": _AZURE}


def judge(error: BaseException, url: str) -> Verdict:
    """What an error means that fsspec, or the client behind it, has raised at `url`."""
    verdict = _judge(error, url)
    return replace(verdict, advice=in_words_of(url, verdict.advice))


def in_words_of(url: str, advice: str) -> str:
    """The same, where it is of S3, for a store of Google's or Microsoft's."""
    for ours, theirs in _WORDS.get(url.partition("://")[0], ()):
        advice = advice.replace(ours, theirs)
    return advice


def _judge(error: BaseException, url: str) -> Verdict:
    code = error_code(error)
    missing = _missing(error, code)
    if missing == "bucket":
        name = url.partition("://")[2].partition("/")[0]
        return Verdict(
            f"there is no bucket {name!r}; create it, or check its name and AWS_ENDPOINT_URL", missing=missing
        )
    if missing and not isinstance(error, NotADirectoryError):
        return Verdict("does not exist", missing=missing)
    passing = _passes(error, code)
    advice = _advice(error, code)
    if _has_class(error, "EndpointConnectionError"):
        return Verdict(advice or brief(error), passing=passing, tries=TRIES_TO_CONNECT)
    if advice is not None:
        return Verdict(advice, passing=passing)
    if code is not None or passing or isinstance(error, WrongAnswerError):
        return Verdict(brief(error), passing=passing)
    return judge_system(error)


def error_code(error: BaseException) -> str | None:
    """S3's word for what went wrong, such as "SlowDown"; None where the store has not spoken."""
    response = _response(error)
    code = response.get("Error", {}).get("Code") if response else None
    return str(code) if code is not None else None


def needs_others(error: BaseException) -> bool:
    """Whether other credentials than those which the client has are needed: so should the next one look."""
    code = error_code(error)
    return code in EXPIRED or code in _WRONG_KEYS or _lacks_credentials(error)


def _lacks_credentials(error: BaseException) -> bool:
    return any(_has_class(error, name) for name in ("NoCredentialsError", "PartialCredentialsError"))


def _missing(error: BaseException, code: str | None) -> Missing | None:
    if code == "NoSuchBucket":
        return "bucket"
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) or code in ("NoSuchKey", "404"):
        return "object"
    return None


def _passes(error: BaseException, code: str | None) -> bool:
    """Time-outs, resets, throttling, 5xx."""
    status = _http_status(error)
    if code in _PASSING_CODES or (status is not None and status >= 500 and status != 501):
        return True
    if code is not None:
        return False
    return judge_system(error).passing or any(_has_class(error, name) for name in _PASSING_CLASSES)


def _advice(error: BaseException, code: str | None) -> str | None:
    if _lacks_credentials(error):
        return (
            "no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE;"
            " for a bucket that is open to everyone, FSSPEC_S3_ANON=true"
        )
    if _has_class(error, "ProfileNotFound"):
        return f"{brief(error)}; check AWS_PROFILE and ~/.aws/config"
    if _has_class(error, "SSLError"):
        return (
            f"the certificate that answers is not accepted ({brief(error)[:120]}); AWS_CA_BUNDLE names the"
            " file of the authorities to be trusted"
        )
    if code in _REGION_CODES:
        return (
            f"the bucket is in another region than was asked ({code}), or the AWS credentials are none;"
            " check AWS_DEFAULT_REGION, or the profile's region, and AWS_ENDPOINT_URL"
        )
    if code == "InvalidObjectState":
        return f"the object is archived ({code}); restore it from its storage class first"
    if code in _CREDENTIAL_CODES:
        return f"the store does not accept the AWS credentials ({code}); check them and this machine's clock"
    if code in _REFUSED_CODES or isinstance(error, PermissionError):
        reason = code or brief(error)
        return f"access refused ({reason}); check that your credentials may read and write there"
    if isinstance(error, ImportError):
        wanted = "" if "nstall" in str(error) else "; install the package that opens this kind of URL"
        return f"{error}{wanted}"
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return f"{error}; AWS_ENDPOINT_URL, or the profile's endpoint_url, must be like https://host:port"
    if isinstance(error, ValueError) and "Protocol not known" in str(error):
        return "unknown kind of URL; give a path, file://, s3://bucket/prefix, or what fsspec opens"
    if _has_class(error, "ParamValidationError"):
        return f"not a name that S3 has; give s3://BUCKET/PREFIX ({brief(error).partition(': ')[2]})"
    if _has_class(error, "EndpointConnectionError"):
        return f"cannot connect ({brief(error)}); check AWS_ENDPOINT_URL and the network"
    return None


def _has_class(error: BaseException, name: str) -> bool:
    return any(kind.__name__ == name for link in chain(error) for kind in type(link).__mro__)


def _response(error: BaseException) -> dict[str, dict[str, object]] | None:
    for link in chain(error):
        response = getattr(link, "response", None)
        if isinstance(response, dict):
            return response
    return None


def _http_status(error: BaseException) -> int | None:
    response = _response(error)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") if response else None
    return status if isinstance(status, int) else None
