"""Pointing S3's clients to a server on this machine."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import pytest

from shard_tools.storage import etags
from shard_tools.storage.backends import obstore_clients


def point_to(endpoint: str, key: str, secret: str, patch: pytest.MonkeyPatch) -> None:
    """Set AWS's environment variables, and keep proxies away from this machine."""
    patch.setenv("AWS_ENDPOINT_URL", endpoint)
    patch.setenv("AWS_ACCESS_KEY_ID", key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        patch.setenv(name, ",".join(filter(None, [os.environ.get(name), urlsplit(endpoint).hostname])))


def make_bucket(name: str) -> None:
    from s3fs import S3FileSystem

    S3FileSystem(use_listings_cache=False, skip_instance_cache=True).mkdir(name)


def forget_clients() -> None:
    """Those that were made by other environment variables, and what was read by them."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    obstore_clients.forget()
    etags.forget()
