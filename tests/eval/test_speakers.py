"""Speakers come from shards' labels where there are some, and from the paths otherwise."""

from __future__ import annotations

import pytest

from eval.speakers import numbered, speakers_of
from eval.utterances import open_utterances
from shard_tools import cli
from shard_tools.errors import UserError


def test_paths_tell_by_their_first_folder():
    assert speakers_of(["a/x/1.wav", "b/1.wav"]) == ("a", "b")
    assert speakers_of(["a/x/1.wav", "1.wav"]) is None
    assert numbered(("b", "a", "b")).tolist() == [0, 1, 0]


def test_shards_tell_by_their_labels(voices, tmp_path):
    names = sorted(voices.lengths)
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"whoever-{name[:2]} {name}\n" for name in names))
    assert cli.main(["pack", str(voices.folder), str(tmp_path / "shards"), "--list", str(listed)]) == 0
    shards = open_utterances(str(tmp_path / "shards"))
    assert speakers_of(names, shards) == tuple(f"whoever-{name[:2]}" for name in names)
    with pytest.raises(UserError, match="no utterance with the key 's9/00'"):
        speakers_of(["s9/00.wav"], shards)
