"""What is shown to people holds no credentials, and nothing that acts on a terminal."""

from __future__ import annotations

import logging

import pytest

from shard_tools.errors import UserError
from shard_tools.text import SafeFormatter, has_control, printable, redacted


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pass@host/x", "https://***@host/x"),
        ("https://ghp_token@host/x", "https://***@host/x"),
        ("s3://AKIA:sec/ret@bucket/x", "s3://***@bucket/x"),
        ("/data/https:/user:pass@host/x", "/data/https:/***@host/x"),
        ("ftp://u:p@ss@host:21/x", "ftp://***@host:21/x"),
        ("https://h/x?X-Amz-Signature=ab12&list=3", "https://h/x?X-Amz-Signature=***&list=3"),
        ("https://h/x?a=1&sig=zz%2F", "https://h/x?a=1&sig=***"),
        ("https://h/x?AWSAccessKeyId=AK&Signature=S", "https://h/x?AWSAccessKeyId=***&Signature=***"),
    ],
)
def test_credentials_are_taken_out_of_urls(url: str, shown: str) -> None:
    assert redacted(f"{url}: not found") == f"{shown}: not found"
    assert str(UserError(f"{url}: not found")) == f"{shown}: not found"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a@b.wav",
        "http://127.0.0.1:8000/a@b.wav",
        "mail@example.org",
        "/data/x=1,y=2",
        "--key value ?",
        "s3://bucket/id10270?versionId=3",
    ],
)
def test_what_holds_none_stays(text: str) -> None:
    assert redacted(text) == text


def test_control_characters_are_escaped() -> None:
    assert printable("a\x1b[31mred\x9b\x07 \u202eb\nnext\tcell é") == (
        "a\\x1b[31mred\\x9b\\x07 \\u202eb\nnext\tcell é"
    )
    assert has_control("a\nb")
    assert not has_control("a b é")


def test_logs_are_safe() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s\x1b]0;", ("https://u:p@h/",), None)
    assert SafeFormatter("%(message)s").format(record) == "https://***@h/\\x1b]0;"
