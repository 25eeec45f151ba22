from __future__ import annotations

import os

from shard_tools.dataprep.finished import Finished

MD5, OTHER = "a" * 32, "b" * 32


def test_files_and_folders_are_kept(tmp_path):
    (tmp_path / "a b").write_bytes(b"xy")
    (tmp_path / "v/wav").mkdir(parents=True)
    finished = Finished(tmp_path)
    finished.add_file("a b", MD5)
    finished.add_folder("v/wav", MD5)
    for each in (finished, Finished(tmp_path)):
        assert each.names() == ["a b"]
        assert each.has_file("a b", MD5)
        assert each.has_folder("v/wav", MD5)
        assert not each.has_file("a b", OTHER)
        assert not each.has_folder("v/wav", OTHER)
        assert not each.has_file("c", MD5)
    assert (tmp_path / "lists/finished.txt").read_text().splitlines()[0].startswith(f"a b {MD5} 2 ")


def test_what_changed_or_went_is_not_done(tmp_path):
    (tmp_path / "a").write_bytes(b"xy")
    finished = Finished(tmp_path)
    finished.add_file("a", MD5)
    os.utime(tmp_path / "a", ns=(1, 1))
    assert not finished.has_file("a", MD5)
    (tmp_path / "a").unlink()
    assert not finished.has_file("a", MD5)
    finished.add_folder("v", MD5)
    assert not finished.has_folder("v", MD5)


def test_a_torn_line_harms_no_other(tmp_path):
    (tmp_path / "a").write_bytes(b"xy")
    Finished(tmp_path).add_file("a", MD5)
    with open(tmp_path / "lists/finished.txt", "ab") as file:
        file.write(b"b " + OTHER.encode()[:9])
    Finished(tmp_path).add_file("a", OTHER)
    finished = Finished(tmp_path)
    assert finished.names() == ["a"]
    assert finished.has_file("a", OTHER)
