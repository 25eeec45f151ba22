from __future__ import annotations

import numpy as np
import pytest
from aac_files import speechlike, write

from shard_tools.audio.convert import convert
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.errors import UserError
from shard_tools.pack.listing import ProblemsError
from shard_tools.pack.packing import PackOptions, pack
from shard_tools.read.reader import Reader


@pytest.mark.parametrize("codec", ["keep", "flac"])
def test_m4a_goes_into_shards_without_wavs_on_the_disk(tmp_path, codec):
    root = tmp_path / "aac"
    first = write(root / "id1" / "vidéo 1" / "00001.m4a", speechlike(20000))
    second = write(root / "id2" / "v" / "00002.M4A", speechlike(20000, 1))
    options = PackOptions(convert=True, format=codec)
    summary = pack(str(root), str(tmp_path / "out"), options=options)
    assert summary.manifest.speakers == ("id1", "id2")
    catalogue = open_catalogue(str(tmp_path / "out"))
    for key, data in (("id1/vidéo 1/00001", first), ("id2/v/00002", second)):
        utterance = catalogue.find(key)
        assert np.array_equal(Reader(catalogue).utterance(utterance), convert(data, "x").samples)
        assert catalogue.codec[utterance] == (codec == "flac")


def test_without_convert_m4a_is_said_to_need_it(tmp_path):
    write(tmp_path / "aac" / "id1" / "1.m4a", speechlike(2000))
    with pytest.raises(UserError, match=r"no \.wav or \.flac below it; .*--convert for m4a"):
        pack(str(tmp_path / "aac"), str(tmp_path / "out"))


def test_every_cut_file_is_named_before_anything_is_published(tmp_path):
    for number in range(3):
        data = write(tmp_path / "aac" / "id1" / f"{number}.m4a", speechlike(2000))
        if number:
            (tmp_path / "aac" / "id1" / f"{number}.m4a").write_bytes(data[: len(data) // 2])
    with pytest.raises(ProblemsError) as caught:
        pack(str(tmp_path / "aac"), str(tmp_path / "out"), options=PackOptions(convert=True))
    assert [line.split(": ")[1] for line in caught.value.problems] == ["truncated MPEG-4"] * 2
    assert not (tmp_path / "out").exists()


def test_two_files_that_differ_in_their_ending_alone_are_refused(tmp_path):
    write(tmp_path / "aac" / "id1" / "1.m4a", speechlike(2000))
    write(tmp_path / "aac" / "id1" / "1.wma", speechlike(2000), container="asf", codec="wmav2")
    with pytest.raises(ProblemsError, match=r"id1/1\.wma and id1/1\.m4a would both have the key 'id1/1'"):
        pack(str(tmp_path / "aac"), str(tmp_path / "out"), options=PackOptions(convert=True))
