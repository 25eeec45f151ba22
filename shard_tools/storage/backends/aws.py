"""Where a bucket of S3 is and who may ask for it, as botocore finds it out for all programs that use it.

That is: the environment, the profiles of ~/.aws with their endpoints and `services`, credentials from files,
processes, roles, web identities, containers and instances. fsspec's own settings for S3 (FSSPEC_S3_ANON and
the like) are heeded where they are known here; for others, and for what has no plain bucket, there is None.
"""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shard_tools.errors import UserError
from shard_tools.storage.policy import current_policy

_PLAIN_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # no ARN of an access point
_OPTIONS = frozenset(
    {"anon", "key", "secret", "token", "endpoint_url", "profile", "requester_pays"}
)  # of s3fs
_KEY = "key"
_OF_AWS = re.compile(r"\.amazonaws\.com(\.cn)?$")
_SIGNATURES = (None, "s3v4", "v4")
# obstore asks for new credentials when the old ones have less than five minutes left: with this much more it
# asks botocore twice a minute, which knows when they really end.
_MARGIN = datetime.timedelta(seconds=330)


@dataclass(frozen=True)
class Bucket:
    """endpoint: with the bucket in the host where `virtual`; credentials: obstore's, None to sign nothing."""

    endpoint: str
    virtual: bool
    region: str
    ca_bundle: bytes | None
    requester_pays: bool
    credentials: CredentialProvider | None


class CredentialProvider:
    """botocore's credentials for obstore, which calls this in any thread. `failure`: why it got none."""

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._refreshed = hasattr(credentials, "refresh_needed")
        self.failure: Exception | None = None

    def __call__(self) -> dict[str, Any]:
        try:
            found = self._credentials.get_frozen_credentials()
        except Exception as error:
            self.failure = error
            raise
        ends = datetime.datetime.now(datetime.timezone.utc) + _MARGIN if self._refreshed else None
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.token,
            "expires_at": ends,
        }


def find_bucket(name: str, options: Mapping[str, Any]) -> Bucket | None:
    """The bucket `name`; options: of fsspec's for S3. None where only s3fs knows what to do.

    Raises botocore's errors, NoCredentialsError among them, and UserError where the CA bundle is unreadable.
    """
    import botocore.session
    from botocore.credentials import Credentials
    from botocore.exceptions import NoCredentialsError

    if not _PLAIN_BUCKET.fullmatch(name) or name.endswith("--x-s3") or not set(options) <= _OPTIONS:
        return None
    session = botocore.session.Session(profile=options.get("profile"))
    if session.get_scoped_config().get("s3", {}).get("signature_version") not in _SIGNATURES:
        return None
    provider = None
    if not _is_true(options.get("anon")):
        if options.get("key") and options.get("secret"):
            found = Credentials(options["key"], options["secret"], options.get("token"))
        else:
            found = session.get_credentials()
        if found is None:
            raise NoCredentialsError
        provider = CredentialProvider(found)
        provider()  # here, where an error keeps its kind
    url, region = _find_url(session, name, options.get("endpoint_url"))
    virtual = not url.endswith(f"/{name}/{_KEY}")
    return Bucket(
        endpoint=url.removesuffix(f"/{_KEY}") if virtual else url.removesuffix(f"/{name}/{_KEY}"),
        virtual=virtual,
        region=region,
        ca_bundle=_authorities(session),
        requester_pays=_is_true(options.get("requester_pays")),
        credentials=provider,
    )


def _find_url(session: Any, bucket: str, endpoint: str | None) -> tuple[str, str]:
    """The URL that botocore would ask for the object _KEY, and the region that its signature would name."""
    client = _client(session, endpoint, None)
    if endpoint is None and _OF_AWS.search(urlsplit(client.meta.endpoint_url).hostname or ""):
        found = _region_of(client, bucket)
        if found not in (None, client.meta.region_name):
            client = _client(session, endpoint, found)
    region = client.meta.region_name
    return _url_asked(client, bucket), "us-east-1" if region in (None, "aws-global") else str(region)


class _Asked(Exception):
    """A request that is not sent."""


def _url_asked(client: Any, bucket: str) -> str:
    """Not by a presigned URL, which for some regions is of an address that sends whoever asks elsewhere."""

    def catch(request: Any, **_: object) -> None:
        raise _Asked(request.url)

    client.meta.events.register("before-send.s3.GetObject", catch)
    try:
        client.get_object(Bucket=bucket, Key=_KEY)
    except _Asked as asked:
        return str(asked)
    raise RuntimeError(f"botocore sent a request for {bucket} that was not to be sent")


def _client(session: Any, endpoint: str | None, region: str | None) -> Any:
    from botocore import UNSIGNED
    from botocore.config import Config

    policy = current_policy()
    config = Config(
        signature_version=UNSIGNED,
        connect_timeout=policy.connect_timeout_s,
        read_timeout=policy.read_timeout_s,
        retries={"total_max_attempts": 1},
    )
    return session.create_client("s3", region_name=region, endpoint_url=endpoint, config=config)


def _region_of(client: Any, bucket: str) -> str | None:
    """Where AWS has the bucket, which it tells everyone; None where it cannot be asked.

    botocore asks in the region of the environment, and goes where it is sent. obstore does not.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = client.head_bucket(Bucket=bucket)
    except ClientError as error:
        answer = error.response
    except BotoCoreError:
        return None
    found = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    return None if found is None else str(found)


def _authorities(session: Any) -> bytes | None:
    """The certificates that botocore trusts where it is told of any."""
    for path, name in (
        (session.get_config_variable("ca_bundle"), "AWS_CA_BUNDLE, or ca_bundle in ~/.aws,"),
        (os.environ.get("REQUESTS_CA_BUNDLE"), "REQUESTS_CA_BUNDLE"),
    ):
        if isinstance(path, str):
            try:
                return Path(path).read_bytes()
            except OSError as error:
                raise UserError(f"{path}: {error.strerror}; {name} names it") from error
    return None


def _is_true(option: object) -> bool:
    """fsspec hands on what it cannot read as JSON as text."""
    return option is True or str(option).lower() in ("true", "1")
