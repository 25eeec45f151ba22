from __future__ import annotations

import argparse

import pytest

from shard_tools.dataprep import credentials
from shard_tools.dataprep.credentials import Credentials, add_options, from_options
from shard_tools.errors import UserError


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in (credentials.USER, credentials.PASSWORD, credentials.KEY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(credentials.getpass, "getpass", lambda prompt: f"asked for {prompt}")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)


def found(*words: str) -> Credentials:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return from_options(parser.parse_args(words))


def test_options():
    assert found() == Credentials()
    assert found("--user", "u", "--password", "p") == Credentials(user="u", password="p")
    assert found("--key", "k") == Credentials(key="k")


def test_prompts():
    assert found("--user", "u").password == "asked for password of u: "
    assert found("--user", "u", "--password").password == "asked for password of u: "
    assert found("--key").key == "asked for access key: "


def test_the_environment(monkeypatch):
    monkeypatch.setenv(credentials.USER, "eu")
    monkeypatch.setenv(credentials.PASSWORD, "ep")
    assert found() == Credentials(user="eu", password="ep")
    assert found("--user", "u") == Credentials(user="u", password="ep")
    assert found("--password", "p") == Credentials(user="eu", password="p")
    assert found("--key", "k") == Credentials(key="k")
    monkeypatch.setenv(credentials.KEY, "ek")
    assert found() == Credentials(key="ek")
    assert found("--key") == Credentials(key="ek")
    assert found("--user", "u", "--password") == Credentials(user="u", password="ep")
    assert found("--user", "u") == Credentials(user="u", password="ep")


def test_nobody_can_be_asked(monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(
        UserError, match="--password has no value and nobody can be asked; set VOXCELEB_PASSWORD"
    ):
        found("--user", "u")
    with pytest.raises(UserError, match="--key has no value and nobody can be asked; set VOXCELEB_KEY"):
        found("--key")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--user", "u", "--key", "k"), "give one of them"),
        (("--password", "p"), "--password needs --user"),
        (("--user", "", "--password", "p"), "--user is empty"),
        (("--key", " "), "--key is empty"),
    ],
)
def test_what_does_not_fit(words, said):
    with pytest.raises(UserError, match=said):
        found(*words)


def test_scrub():
    who = Credentials(user="vox", password="pass word/1")
    text = "pass word/1 pass%20word/1 pass%20word%2F1 pass+word%2F1 dm94OnBhc3Mgd29yZC8x"
    assert who.scrub(text) == "*** *** *** *** ***"
    assert Credentials(key="abc").scrub("an abc") == "an abc"  # too short to be known from a word
