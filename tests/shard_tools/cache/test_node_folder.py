from __future__ import annotations

import os

import pytest

from shard_tools.cache import node_folder
from shard_tools.cache.node_folder import in_memory, make_own, usual_folder
from shard_tools.cache.shard import CacheError

MOUNTS = r"""
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:25 / /dev/shm rw shared:3 - tmpfs tmpfs rw
31 22 0:26 / /tmp rw - tmpfs tmpfs rw
32 31 8:2 / /tmp/local\040disk rw - xfs /dev/sdb rw
""".lstrip()


def test_the_jobs_own_folder_comes_first(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/scratch/tmp")
    monkeypatch.delenv("SLURM_TMPDIR", raising=False)
    assert usual_folder() == f"/scratch/tmp/voxshard-{os.getuid()}"
    monkeypatch.setenv("SLURM_TMPDIR", "/localscratch/7")
    assert usual_folder() == f"/localscratch/7/voxshard-{os.getuid()}"


def test_the_folder_is_the_users_alone(tmp_path):
    folder = tmp_path / "a" / "b"
    make_own(str(folder))
    make_own(str(folder))
    assert folder.stat().st_mode & 0o077 == 0
    folder.chmod(0o777)
    with pytest.raises(CacheError, match="others may write"):
        make_own(str(folder))
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(CacheError, match="not a folder of this user's"):
        make_own(str(tmp_path / "link"))
    (tmp_path / "file").touch()
    with pytest.raises(CacheError, match="cannot be made"):
        make_own(str(tmp_path / "file"))


@pytest.mark.parametrize(
    ("folder", "inside"),
    [
        ("/tmp/voxshard-0", True),
        ("/tmp", True),
        ("/tmp/local disk/voxshard-0", False),
        ("/tmpfiles", False),
        ("/var/tmp", False),
    ],
)
def test_memory_is_told_from_disks(tmp_path, monkeypatch, folder, inside):
    (tmp_path / "mounts").write_text(MOUNTS)
    monkeypatch.setattr(node_folder, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(os.path, "realpath", lambda path: path)
    assert in_memory(folder) == inside
    monkeypatch.setattr(node_folder, "_MOUNTS", tmp_path / "nowhere")
    assert not in_memory(folder)
