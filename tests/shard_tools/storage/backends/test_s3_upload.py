"""What is sent in parts is there whole or not at all, and is what was sent."""

from __future__ import annotations

import pytest

from shard_tools import storage
from shard_tools.storage import StoragePolicy
from shard_tools.storage.backends import place_at, s3_upload
from shard_tools.storage.backends.fsspec import open_filesystem
from shard_tools.storage.backends.s3_upload import S3Upload

pytestmark = pytest.mark.s3

PART = 5 * 2**20  # the least that S3 takes
DATA = bytes(range(256)) * 2**16  # 16 MiB: four parts


@pytest.fixture(autouse=True)
def small_parts(monkeypatch, storage_policy):
    monkeypatch.setattr(s3_upload, "UPLOAD_PART", PART)
    storage_policy(StoragePolicy(attempts=3, first_wait_s=0.01))


@pytest.fixture
def url(s3_bucket):
    return f"{s3_bucket}/some/prefix/x.tar"


def under_way(url: str) -> list[str]:
    fs, path = open_filesystem(url)
    answer = fs.call_s3("list_multipart_uploads", Bucket=fs.split_path(path)[0])
    return [upload["Key"] for upload in answer.get("Uploads") or []]


def send(upload) -> None:
    """In pieces that are no multiples of a part."""
    for start in range(0, len(DATA), 3_000_000):
        piece = memoryview(DATA)[start : start + 3_000_000]
        assert upload.write(piece) == len(piece)


def requests(monkeypatch, harm) -> list[str]:
    """The methods of all requests, in order; harm(method, number, parameters, send) is what makes one."""
    seen: list[str] = []
    call = S3Upload._call

    def harmed(self, method, **parameters):
        seen.append(method)
        number = seen.count(method)
        return harm(method, number, parameters, lambda **other: call(self, method, **{**parameters, **other}))

    monkeypatch.setattr(S3Upload, "_call", harmed)
    return seen


def test_parts_become_one_object_when_all_are_there(url):
    upload = place_at(url).upload()
    send(upload)
    assert not storage.exists(url)
    upload.publish()
    upload.abandon()  # of what is published, nothing
    assert storage.read_bytes(url) == DATA
    assert under_way(url) == []


@pytest.mark.parametrize("size", [0, 1, PART - 1])
def test_what_is_smaller_than_a_part_is_put_at_once(url, size, monkeypatch):
    seen = requests(monkeypatch, lambda method, number, parameters, send: send())
    upload = place_at(url).upload()
    upload.write(DATA[:size])
    upload.publish()
    assert (seen, storage.read_bytes(url)) == (["put_object"], DATA[:size])


def test_what_is_abandoned_leaves_nothing(url):
    storage.publish_bytes(url, b"old")
    upload = place_at(url).upload()
    send(upload)
    upload.abandon()
    upload.abandon()
    assert storage.read_bytes(url) == b"old"
    assert under_way(url) == []


@pytest.mark.parametrize("method", ["upload_part", "put_object"])
def test_what_arrives_as_other_bytes_is_sent_again(url, monkeypatch, method):
    def harm(name, number, parameters, send):
        if name == method and number == 1:  # as a store would that does not look at Content-MD5
            parameters.pop("ContentMD5")
            return send(Body=b"?" + parameters["Body"][1:])
        return send()

    seen = requests(monkeypatch, harm)
    data = DATA if method == "upload_part" else DATA[:100]
    upload = place_at(url).upload()
    upload.write(data)
    upload.publish()
    assert storage.read_bytes(url) == data
    assert seen.count(method) == (5 if method == "upload_part" else 2)


def test_a_part_that_never_arrives_stops_the_upload(url, monkeypatch):
    def harm(name, number, parameters, send):
        if name == "upload_part" and parameters["PartNumber"] == 2:
            raise TimeoutError("slow")
        return send()

    requests(monkeypatch, harm)
    upload = place_at(url).upload()
    upload.write(DATA[: 3 * PART])
    with pytest.raises(storage.StorageError, match=r"x\.tar: gave up after 3 tries"):
        upload.publish()
    upload.abandon()
    assert not storage.exists(url)
    assert under_way(url) == []


def test_a_lost_answer_to_the_last_request_does_not_matter(url, monkeypatch):
    def harm(name, number, parameters, send):
        answer = send()
        if name == "complete_multipart_upload" and number == 1:
            raise TimeoutError("slow")
        return answer

    seen = requests(monkeypatch, harm)
    upload = place_at(url).upload()
    send(upload)
    upload.publish()
    assert storage.read_bytes(url) == DATA
    assert seen.count("complete_multipart_upload") == 2


def test_an_object_of_another_size_is_an_error(url, monkeypatch):
    def harm(name, number, parameters, send):
        answer = send()
        return {**answer, "ContentLength": 7} if name == "head_object" else answer

    requests(monkeypatch, harm)
    upload = place_at(url).upload()
    send(upload)
    with pytest.raises(storage.StorageError, match=f"{len(DATA)} bytes were sent, and the store has 7"):
        upload.publish()


class Gone(FileNotFoundError):
    """As s3fs raises it; moto answers 500 instead."""

    response = {"Error": {"Code": "NoSuchUpload"}}  # noqa: RUF012


@pytest.mark.parametrize("method", ["upload_part", "complete_multipart_upload"])
def test_an_upload_that_another_aborted_is_lost(url, monkeypatch, method):
    def harm(name, number, parameters, send):
        if name == method:
            raise Gone
        return send()

    requests(monkeypatch, harm)
    upload = place_at(url).upload()
    upload.write(DATA[:PART])
    with pytest.raises(storage.LostUploadError, match="broken off by another process"):
        upload.publish()
    upload.abandon()
    assert not storage.exists(url)


def test_only_uploads_of_ours_are_aborted(s3_bucket):
    folder = f"{s3_bucket}/some"
    urls = [f"{folder}/{name}" for name in ("x", "y", "deep/x")] + [f"{s3_bucket}/somewhere/x"]
    uploads = [place_at(url).upload() for url in urls]
    for upload in uploads:
        upload.write(DATA[:PART])
    assert storage.remove_drafts(folder, lambda name: name == "x") == ["x"]
    assert sorted(under_way(s3_bucket)) == ["some/deep/x", "some/y", "somewhere/x"]
    for upload in uploads:
        upload.abandon()


def test_where_uploads_may_not_be_listed_there_is_a_warning(s3_bucket, monkeypatch, caplog):
    def refused(*_):
        raise PermissionError("Access Denied")
        yield

    monkeypatch.setattr(s3_upload, "_uploads", refused)
    assert storage.remove_drafts(s3_bucket, lambda _: True) == []
    assert "could not be aborted: access refused" in caplog.text
