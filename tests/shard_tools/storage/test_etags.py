from __future__ import annotations

import pytest

from shard_tools.storage import ReplacedError, etags


@pytest.fixture(autouse=True)
def _none_known():
    etags.forget()
    yield
    etags.forget()


def test_what_is_opened_as_another_version_begins_anew():
    etags.opened("s3://b/set", "one")
    for url in ("s3://b/set/x", "s3://b/set-2/x"):
        etags.require(url, "old")
    etags.opened("s3://b/set", "one")
    with pytest.raises(ReplacedError):
        etags.require("s3://b/set/x", "new")
    etags.opened("s3://b/set", "two")
    etags.require("s3://b/set/x", "new")
    with pytest.raises(ReplacedError):
        etags.require("s3://b/set-2/x", "new")
