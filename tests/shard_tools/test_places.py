"""A path that a person typed leads where a shell would take it, or is refused: no folder is named "~"."""

from __future__ import annotations

import pytest

from shard_tools.errors import UserError
from shard_tools.places import expand


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.delenv("ABSENT", raising=False)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("~", "/home/me"),
        ("~/vox", "/home/me/vox"),
        ("~root/vox", "/root/vox"),
        ("$SCRATCH/vox", "/scratch/me/vox"),
        ("${SCRATCH}2/$SCRATCH", "/scratch/me2//scratch/me"),
        ("$HOME", "/home/me"),
        ("file://$SCRATCH/vox", "file:///scratch/me/vox"),
        ("file://~/vox", "file:///home/me/vox"),
        ("runs/a~b", "runs/a~b"),
        ("./~", "./~"),
        ("price$5/100$/${", "price$5/100$/${"),
        ("s3://bucket/~/$ABSENT", "s3://bucket/~/$ABSENT"),
        ("memory://~/$SCRATCH", "memory://~/$SCRATCH"),
        ("", ""),
    ],
)
def test_what_is_meant(typed: str, meant: str) -> None:
    assert expand(typed) == meant
    assert expand(meant) == meant


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("$ABSENT/vox", "the environment variable ABSENT is not set"),
        ("file://x/${ABSENT}", "the environment variable ABSENT is not set"),
        ("$EMPTY/vox", "the environment variable EMPTY is empty"),
        ("~nobody-of-this-name/vox", "write ./~nobody-of-this-name"),
    ],
)
def test_what_leads_nowhere_is_refused(typed: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        expand(typed)
