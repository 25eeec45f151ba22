"""What is sent in parts is there whole or not at all, and is what was sent."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fsspec.asyn import get_loop
from interrupts import unnoticed_interrupt

from shard_tools import storage
from shard_tools.storage import StoragePolicy
from shard_tools.storage.backends import place_at, s3_leftovers, s3_upload
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
def url(s3_folder):
    return f"{s3_folder}/some/prefix/x.tar"


def under_way(url: str) -> list[str]:
    """Keys below `url`, without what it says itself."""
    fs, path = open_filesystem(url)
    bucket, key, _ = fs.split_path(path)
    answer = fs.call_s3("list_multipart_uploads", Bucket=bucket)
    keys = [upload["Key"] for upload in answer.get("Uploads") or []]
    return [found.removeprefix(f"{key}/") for found in keys if found.startswith(key)]


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


@pytest.mark.slow
def test_parts_become_one_object_when_all_are_there(url):
    upload = place_at(url).upload()
    send(upload)
    assert not storage.exists(url)
    upload.publish()
    upload.abandon()  # of what is published, nothing
    assert storage.read_bytes(url) == DATA
    assert under_way(url) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, PART - 1])
def test_what_is_smaller_than_a_part_is_put_at_once(url, size, monkeypatch):
    seen = requests(monkeypatch, lambda method, number, parameters, send: send())
    upload = place_at(url).upload()
    upload.write(DATA[:size])
    upload.publish()
    assert (seen, storage.read_bytes(url)) == (["put_object"], DATA[:size])


@pytest.mark.slow
def test_what_is_abandoned_leaves_nothing(url):
    storage.publish_bytes(url, b"old")
    upload = place_at(url).upload()
    send(upload)
    upload.abandon()
    upload.abandon()
    assert storage.read_bytes(url) == b"old"
    assert under_way(url) == []


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
    """As s3fs raises it; as SeaweedFS answers."""

    response = {"Error": {"Code": "NoSuchUpload"}}  # noqa: RUF012


@pytest.mark.slow
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


@pytest.mark.slow
def test_only_uploads_of_ours_are_aborted(s3_folder):
    folder = f"{s3_folder}/some"
    urls = [f"{folder}/{name}" for name in ("x", "y", "deep/x")] + [f"{s3_folder}/somewhere/x"]
    uploads = [place_at(url).upload() for url in urls]
    for upload in uploads:
        upload.write(DATA[:PART])
    assert storage.remove_drafts(folder, lambda name: name == "x") == ["x"]
    assert sorted(under_way(s3_folder)) == ["some/deep/x", "some/y", "somewhere/x"]
    for upload in uploads:
        upload.abandon()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "tries"), [(PermissionError("Access Denied"), 1), (TimeoutError("slow"), 3)]
)
def test_where_uploads_cannot_be_listed_is_an_error_after_few_tries(s3_folder, monkeypatch, error, tries):
    tried = []

    def refused(*_):
        tried.append(True)
        raise error

    storage.configure(StoragePolicy(attempts=8, first_wait_s=0.01))
    monkeypatch.setattr(s3_leftovers, "_uploads", refused)
    with pytest.raises(storage.StorageError):
        storage.remove_drafts(s3_folder, lambda _: True)
    assert len(tried) == tries


def test_pages_that_do_not_go_on_are_the_last():
    class Pages:
        asked = 0

        def call_s3(self, *_, **__):
            self.asked += 1
            assert self.asked < 9
            return {"IsTruncated": True, "NextKeyMarker": "k", "NextUploadIdMarker": "u", "Uploads": []}

    assert list(s3_leftovers._uploads(Pages(), "b", "")) == []


@pytest.mark.slow
@pytest.mark.parametrize("by", ["parts", "one request"])
def test_an_older_object_of_the_same_size_is_not_taken_for_the_new_one(url, monkeypatch, by):
    old = bytes(len(DATA))
    if by == "parts":
        upload = place_at(url).upload()
        upload.write(old)
        upload.publish()
    else:
        storage.publish_bytes(url, old)

    def harm(name, number, parameters, send):
        if name == "complete_multipart_upload":
            raise Gone
        return send()

    requests(monkeypatch, harm)
    upload = place_at(url).upload()
    send(upload)
    with pytest.raises(storage.LostUploadError):
        upload.publish()
    upload.abandon()


@pytest.mark.slow
def test_an_upload_that_an_earlier_try_completed_is_there(url, monkeypatch):
    def harm(name, number, parameters, send):
        if name == "complete_multipart_upload" and number == 2:
            raise Gone
        answer = send()
        if name == "complete_multipart_upload":
            raise TimeoutError("slow")
        return answer

    requests(monkeypatch, harm)
    upload = place_at(url).upload()
    send(upload)
    upload.publish()
    assert storage.read_bytes(url) == DATA


@pytest.mark.slow
@pytest.mark.parametrize(("etag", "told"), [("0" * 32 + "-4", True), ("0" * 32 + "-7", False), ("x", False)])
def test_another_etag_of_the_whole_is_no_error(url, monkeypatch, caplog, etag, told):
    def harm(name, number, parameters, send):
        return {**send(), "ETag": etag} if name == "complete_multipart_upload" else send()

    requests(monkeypatch, harm)
    for _ in range(2):
        upload = place_at(url).upload()
        send(upload)
        upload.publish()
    assert caplog.text.count("are not made as S3 makes them") == told


@pytest.mark.slow
def test_etags_under_a_key_of_the_customers_are_no_md5s(url, monkeypatch, caplog):
    real = {}

    def harm(name, number, parameters, send):
        if name == "upload_part":
            answer = send()
            named = f"{parameters['PartNumber']:032x}"
            real[named] = answer["ETag"]
            return {**answer, "ETag": named, "SSECustomerAlgorithm": "AES256"}
        if name == "complete_multipart_upload":
            parts = [{**part, "ETag": real[part["ETag"]]} for part in parameters["MultipartUpload"]["Parts"]]
            return send(MultipartUpload={"Parts": parts})
        return send()

    requests(monkeypatch, harm)
    upload = place_at(url).upload()
    send(upload)
    upload.publish()
    assert storage.read_bytes(url) == DATA
    assert "ETag" not in caplog.text


class Refused(OSError):
    response = {"Error": {"Code": "BadDigest"}}  # noqa: RUF012


@pytest.mark.slow
@pytest.mark.parametrize("by_store", [True, False])
def test_what_never_arrives_whole_is_no_matter_of_reading(url, monkeypatch, by_store):
    def harm(name, number, parameters, send):
        if name == "upload_part" and by_store:
            raise Refused
        return {**send(), "ETag": "0" * 32} if name == "upload_part" else send()

    requests(monkeypatch, harm)
    upload = place_at(url).upload()
    upload.write(DATA[:PART])
    with pytest.raises(storage.StorageError, match="3 times; what is sent does not arrive whole there"):
        upload.publish()
    upload.abandon()


class Silent:
    """A store that does not answer once the upload has begun."""

    def __init__(self) -> None:
        self.loop = get_loop()
        self.asked: list[str] = []

    def split_path(self, path):
        return *path.split("/", 1), None

    async def _call_s3(self, method, **_):
        self.asked.append(method)
        if method != "create_multipart_upload":
            await asyncio.sleep(600)
        return {"UploadId": "1"}


@pytest.mark.slow
def test_who_stops_does_not_wait_for_a_store_that_is_silent(monkeypatch):
    monkeypatch.setattr(s3_upload, "_ABORT_TIMEOUT_S", 0.1)
    storage.configure(StoragePolicy())
    fs = Silent()
    upload = S3Upload(fs, "b/k", "s3://b/k")
    began = time.monotonic()
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(upload.write, bytes(6 * PART))  # more than may be under way
        while fs.asked.count("upload_part") < 4:
            time.sleep(0.01)
        upload.stop()
        with pytest.raises(storage.StorageError, match="stopped before it was complete"):
            writing.result()
    upload.abandon()
    assert time.monotonic() - began < 10
    assert (fs.asked.count("upload_part"), fs.asked.count("abort_multipart_upload")) == (4, 2)


@pytest.mark.slow
@pytest.mark.parametrize("parts", [2, 6], ids=["as it is published", "as it is written"])
def test_an_interrupt_that_ends_no_wait_is_heard(monkeypatch, parts):
    monkeypatch.setattr(s3_upload, "_ABORT_TIMEOUT_S", 0.1)
    storage.configure(StoragePolicy())
    upload = S3Upload(Silent(), "b/k", "s3://b/k")

    def whole():
        upload.write(bytes(parts * PART))
        upload.publish()

    unnoticed_interrupt(0.3)
    with pytest.raises(KeyboardInterrupt):
        whole()
    upload.abandon()


@pytest.mark.slow
def test_who_stops_does_not_wait_for_the_next_try(monkeypatch, url):
    def harm(name, number, parameters, send):
        if name == "upload_part":
            raise TimeoutError("slow")
        return send()

    seen = requests(monkeypatch, harm)
    storage.configure(StoragePolicy(first_wait_s=60))
    upload = place_at(url).upload()
    upload.write(DATA[:PART])
    while "upload_part" not in seen:
        time.sleep(0.01)
    began = time.monotonic()
    upload.abandon()
    assert time.monotonic() - began < 10
    assert seen.count("upload_part") == 1
    assert under_way(url) == []


@pytest.mark.slow
def test_no_sums_but_the_md5_are_sent(url):
    fs, _ = open_filesystem(url, own_checksums=True)
    assert fs.config_kwargs.get("request_checksum_calculation") == "when_required"
