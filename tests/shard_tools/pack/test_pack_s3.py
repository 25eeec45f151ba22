"""Shards sent to S3 while they are made: the bytes of those on a disk, and nothing of what failed."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from shard_tools import audio, storage
from shard_tools.errors import UserError
from shard_tools.pack import claim, pack, writer
from shard_tools.pack.packing import PackOptions
from shard_tools.pack.task import ShardTask, SourceFile
from shard_tools.storage import StoragePolicy
from shard_tools.storage.backends import place_at, s3_leftovers, s3_upload
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


@pytest.mark.slow
def test_what_is_sent_in_parts_is_what_lies_on_a_disk(root, s3_bucket, tmp_path):
    url = f"{s3_bucket}/x"
    names = ("shard-000000.tar", "shard-000009.tar", "shards.tar")
    left = [place_at(f"{url}/{name}").upload() for name in names]
    for upload in left:  # by a pack that was killed, one that had more shards, and someone else
        upload.write(bytes(PART))
    pack(str(root), str(tmp_path / "disk"), options=OPTIONS)
    pack(str(root), url, options=OPTIONS, workers=2)
    assert is_same(url, tmp_path / "disk")
    assert keys(url) == ["x/shards.tar"]
    for upload in left:
        upload.abandon()


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_where_uploads_may_not_be_listed_there_is_a_warning(root, s3_bucket, monkeypatch, caplog):
    def refused(*_):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(s3_leftovers, "_uploads", refused)
    pack(str(root), s3_bucket, options=OPTIONS)
    assert "access refused" in caplog.text
    assert "s3:ListBucketMultipartUploads" in caplog.text


class Memory:
    """A site whose uploads are lost, the first `lost` of them."""

    most = 10**12

    def __init__(self, lost: int) -> None:
        self.lost, self.begun = lost, 0

    def at(self, name):
        return name

    def upload(self, _):
        self.begun += 1
        return self

    def stop(self):
        pass

    abandon = stop


def task(site, sources=()) -> ShardTask:
    return ShardTask(0, site, "", None, "keep", False, sources, "")


class StoppedError(Exception):
    pass


def test_a_shard_that_is_sent_again_can_be_stopped_and_counts_once(monkeypatch):
    reported = []

    def report(amount):
        reported.append(amount)
        if len(reported) == 3:
            raise StoppedError

    def write(task, upload, report):
        report(7)
        if upload.begun == 1:
            raise storage.LostUploadError("gone")
        report(7)

    monkeypatch.setattr(writer, "_write_by_upload", write)
    with pytest.raises(StoppedError):
        writer.write_shard(task(Memory(1)), report)
    assert reported == [7, 0, 0]


def test_what_an_upload_cannot_hold_is_refused_before_it_is_sent(monkeypatch):
    source = SourceFile("a", 0, 0, 1, 0, "a.wav", "a", 10**13, 0)
    with pytest.raises(UserError, match="10000 GB are more than the 1000 GB"):
        writer.write_shard(task(Memory(0), [source]), lambda _: None)


def test_while_the_last_parts_are_waited_for_a_worker_can_be_stopped():
    stopped = threading.Event()

    class Silent(Memory):
        def publish(self):
            stopped.wait(60)

        def stop(self):
            stopped.set()

    def report(_):
        raise StoppedError

    with pytest.raises(StoppedError):
        writer._publish(Silent(0), report)
    assert stopped.is_set()


def test_too_little_memory_is_said(monkeypatch):
    def write(*_):
        raise MemoryError

    monkeypatch.setattr(writer, "_write_by_upload", write)
    with pytest.raises(UserError, match=r"no memory left .* fewer --workers"):
        writer.write_shard(task(Memory(0)), lambda _: None)
