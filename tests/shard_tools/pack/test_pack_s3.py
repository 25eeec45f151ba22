"""Shards sent to S3 while they are made: the bytes of those on a disk, and nothing of what failed."""

from __future__ import annotations

import numpy as np
import pytest

from shard_tools import audio, storage
from shard_tools.errors import UserError
from shard_tools.pack import claim, pack
from shard_tools.pack.packing import PackOptions
from shard_tools.storage import StoragePolicy
from shard_tools.storage.backends import place_at, s3_upload
from shard_tools.storage.backends.fsspec import open_filesystem

pytestmark = pytest.mark.s3

PART = 5 * 2**20  # the least that S3 takes
OPTIONS = PackOptions(utterances_per_shard=4)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch, storage_policy):
    monkeypatch.setattr(s3_upload, "UPLOAD_PART", PART)
    storage_policy(StoragePolicy(attempts=3, first_wait_s=0.01))


@pytest.fixture
def root(tmp_path):
    """Eight utterances of 3.2 MB: two shards of three parts each."""
    rng = np.random.default_rng(0)
    for number in range(8):
        path = tmp_path / "wav" / f"id{number // 2}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(audio.encode(rng.integers(-9999, 9999, 1_600_000).astype(np.int16), "wav"))
    return tmp_path / "wav"


def keys(url: str) -> list[str]:
    """Of the uploads under way in the bucket."""
    fs, path = open_filesystem(url)
    answer = fs.call_s3("list_multipart_uploads", Bucket=fs.split_path(path)[0])
    return [upload["Key"] for upload in answer.get("Uploads") or []]


def is_same(url: str, folder) -> bool:
    names = storage.list_names(url)
    return names == sorted(path.name for path in folder.iterdir()) and all(
        storage.read_bytes(f"{url}/{name}") == (folder / name).read_bytes() for name in names
    )


def test_what_is_sent_in_parts_is_what_lies_on_a_disk(root, s3_bucket, tmp_path):
    url = f"{s3_bucket}/x"
    left = [place_at(f"{url}/{name}").upload() for name in ("shard-000000.tar", "shard-000009.tar")]
    for upload in left:  # by a pack that was killed, and by someone else
        upload.write(bytes(PART))
    pack(str(root), str(tmp_path / "disk"), options=OPTIONS)
    pack(str(root), url, options=OPTIONS, workers=2)
    assert is_same(url, tmp_path / "disk")
    assert keys(url) == ["x/shard-000009.tar"]
    for upload in left:
        upload.abandon()


def test_nothing_is_seen_of_a_shard_with_a_damaged_file(root, s3_bucket):
    path = root / "id3" / "7.wav"
    data = path.read_bytes()
    samples = np.frombuffer(data, "<i2", offset=44)
    flac = bytearray(audio.encode(samples[:16000], "flac"))
    flac[-100] ^= 1
    path.unlink()
    path.with_suffix(".flac").write_bytes(flac)
    with pytest.raises(UserError, match=r"7\.flac"):
        pack(str(root), s3_bucket, options=OPTIONS)
    assert len([name for name in storage.list_names(s3_bucket) if name.endswith(".tar")]) == 1
    assert keys(s3_bucket) == []


def test_a_shard_whose_upload_others_broke_off_is_sent_again(root, s3_bucket, tmp_path, monkeypatch):
    original, lost = claim.require, []

    def require(site, plan):
        original(site, plan)
        if not lost:
            lost.append(True)
            raise storage.LostUploadError("gone")

    monkeypatch.setattr(claim, "require", require)
    pack(str(root), f"{s3_bucket}/x", options=OPTIONS)
    pack(str(root), str(tmp_path / "disk"), options=OPTIONS)
    assert is_same(f"{s3_bucket}/x", tmp_path / "disk")
    assert keys(s3_bucket) == []
