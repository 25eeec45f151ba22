"""obstore's clients: one for each bucket, kept until the process ends, since connections are dear to make."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from shard_tools.heaps import share_heaps
from shard_tools.storage import forks
from shard_tools.storage.backends.aws import Bucket, CredentialProvider, find_bucket
from shard_tools.storage.errors import brief
from shard_tools.storage.policy import current_policy

logger = logging.getLogger(__name__)

# obstore cannot name keys with empty segments, "." or "..", or control characters.
_ODD_KEY = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)|[\x00-\x1f\x7f]|\?versionId=|::")
_FOREVER = timedelta(days=1)  # of a whole request; what counts is the time without a byte


@dataclass(frozen=True, eq=False)
class Client:
    """store: obstore's; credentials: what it asks for them, None where it finds or needs none."""

    store: Any
    credentials: CredentialProvider | None


_clients: dict[tuple[str, float, float], Client | None] = {}
_found: dict[tuple[Any, ...], Bucket | None] = {}  # of S3's, by name and what they were found by
_making = threading.Lock()


@functools.cache
def installed() -> bool:
    return importlib.util.find_spec("obstore") is not None


def client_of(url: str) -> tuple[Client, str] | None:
    """The client for `url`, and the key in its bucket; None where fsspec must serve it.

    Raises what botocore raises that finds no credentials, UserError, and obstore's errors.
    """
    bucket, key = _split(url)
    if bucket is None:
        return None
    policy = current_policy()
    name = (bucket, policy.connect_timeout_s, policy.read_timeout_s)
    if name not in _clients:
        with forks.about_to_use(), _making:
            if name not in _clients:
                share_heaps()
                _clients[name] = _make(bucket)
    client = _clients[name]
    return None if client is None else (client, key)


def make_ready(urls: Iterable[str]) -> None:
    """Load, and find out anew, what clients for `urls` need; make none, so that forks can have them."""
    import obstore.store  # noqa: F401  # which starts no thread

    with forks.about_to_use(), _making:
        _found.clear()
        for bucket in dict.fromkeys(_split(url)[0] or "" for url in urls):
            scheme, _, name = bucket.partition("://")
            if scheme in ("s3", "s3a"):
                try:
                    _find(name)
                except Exception as error:  # whoever needs it meets it again
                    logger.debug("%s: not found out about: %s", bucket, brief(error))


def forget(client: Client | None = None) -> None:
    """Make it anew when it is needed next, with what the environment and files then say; None: all."""
    with _making:
        gone = [name for name, each in _clients.items() if client in (None, each)]
        for name in gone:
            del _clients[name]
        if gone or client is None:
            _found.clear()


@functools.lru_cache(4096)
def _split(url: str) -> tuple[str | None, str]:
    """scheme://bucket and the key; None where obstore is not installed or cannot name it."""
    scheme, _, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    key = key.removesuffix("/")
    if not bucket or not installed() or (key and _ODD_KEY.search(key)):
        return None, ""
    return f"{scheme}://{bucket}", key


def _make(bucket: str) -> Client | None:
    # Else obstore's runtime has a thread for each core of the machine in each of its many processes.
    os.environ.setdefault("TOKIO_WORKER_THREADS", "2")
    scheme, _, name = bucket.partition("://")
    client = _make_s3(name) if scheme in ("s3", "s3a") else _make_other(scheme, name)
    if client is not None:
        # For ever: a forked child that ended, and freed its copy, would take the connections from its parent.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(client.store))
    return client


def _find(name: str) -> Bucket | None:
    """A bucket of S3; of forked processes the first does it for all that are forked from it.

    It takes a tenth of a second.
    """
    options = _options()
    told = (name, repr(sorted(options.items())), tuple(sorted(_told())))
    if told not in _found:
        _found[told] = find_bucket(name, options)
    return _found[told]


def _options() -> dict[str, Any]:
    """fsspec's own settings for S3."""
    from fsspec.config import conf

    return {**conf.get("s3", {}), **conf.get("s3a", {})}


def _told() -> Iterator[tuple[str, str]]:
    """What the environment says of S3."""
    return ((name, value) for name, value in os.environ.items() if name.startswith("AWS_") or name == "HOME")


def _make_s3(name: str) -> Client | None:
    found = _find(name)
    if found is None:
        options = _options()
        logger.info("s3://%s: read by s3fs, which alone knows all of %s", name, sorted(options) or "its name")
        return None
    forks.use()
    import obstore.store

    make: Any = obstore.store.S3Store
    config = {
        "endpoint": found.endpoint,
        "region": found.region,
        "virtual_hosted_style_request": found.virtual,
        "request_payer": found.requester_pays,
        "skip_signature": found.credentials is None,
    }
    client_options = _client_options()
    if found.ca_bundle is not None:
        client_options["root_certificate"] = found.ca_bundle
    store = make(
        name,
        config=config,
        client_options=client_options,
        retry_config={"max_retries": 0},
        credential_provider=found.credentials,
    )
    return Client(store, found.credentials)


def _make_other(scheme: str, name: str) -> Client:
    """Google's and Microsoft's stores, whose credentials obstore finds by itself."""
    forks.use()
    import obstore.store

    make: Any = obstore.store.from_url
    store = make(
        f"{'gs' if scheme == 'gcs' else scheme}://{name}",
        client_options=_client_options(),
        retry_config={"max_retries": 0},  # retrying is ours alone
    )
    return Client(store, None)


def _client_options() -> dict[str, Any]:
    policy = current_policy()
    return {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=policy.connect_timeout_s),
        "read_timeout": timedelta(seconds=policy.read_timeout_s),
        "timeout": _FOREVER,
    }
