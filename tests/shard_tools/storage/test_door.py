from __future__ import annotations

import errno
import logging
import os
import pickle
import socket
import struct
import threading
import uuid
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from fsspec.config import conf as fsspec_config
from fsspec.config import set_conf_env
from s3_settings import forget_clients
from s3fs import S3FileSystem
from seaweedfs import OPEN_BUCKET

from shard_tools import storage
from shard_tools.storage import door, retries
from shard_tools.storage import policy as storage_policy
from shard_tools.storage.backends import choose, fsspec_errors
from shard_tools.storage.backends import fsspec as fsspec_backend
from shard_tools.storage.errors import MissingError, StorageError
from shard_tools.storage.policy import StoragePolicy


@pytest.fixture(params=["path", "file", "memory", pytest.param("s3", marks=pytest.mark.s3)])
def folder(request, tmp_path):
    """The URL of an empty folder on each kind of storage."""
    if request.param == "s3":
        return request.getfixturevalue("s3_folder") + "/some/prefix"
    return {"path": "", "file": "file://", "memory": "memory://"}[request.param] + str(tmp_path / "new")


@pytest.mark.slow
def test_publish_read_list_remove(folder, tmp_path):
    url = storage.join(folder, "sub", "object.bin")
    assert not storage.exists(url)
    assert storage.list_names(folder) == []
    storage.publish_bytes(url, b"0123456789")
    assert storage.exists(url)
    assert storage.exists(folder)
    assert storage.size(url) == 10
    assert storage.read_bytes(url) == b"0123456789"
    assert storage.read_bytes(url, 2, 5) == b"234"
    assert storage.read_bytes(url, 8) == b"89"
    assert storage.read_bytes(url, 8, 20) == b"89"
    assert storage.modified(url) > 1.7e9
    storage.publish_bytes(url, b"new")
    assert storage.read_bytes(url) == b"new"
    local = tmp_path / "local"
    local.write_bytes(b"x" * 1000)
    storage.publish_file(str(local), storage.join(folder, "sub", "file"))
    assert not local.exists()
    assert storage.list_names(folder) == ["sub"]
    assert storage.list_names(storage.join(folder, "sub")) == ["file", "object.bin"]
    urls = [storage.join(folder, "sub", name) for name in ("object.bin", "file") * 5]
    assert storage.read_many(urls) == [b"new", b"x" * 1000] * 5
    storage.fetch(urls[1], str(local))
    assert local.read_bytes() == b"x" * 1000
    storage.remove(url)
    storage.remove(url)
    assert not storage.exists(url)


@pytest.mark.slow
def test_missing_objects_are_named(folder):
    url = storage.join(folder, "none")
    for operation in (storage.read_bytes, storage.size, storage.modified):
        with pytest.raises(MissingError, match=f"^{url}: does not exist$"):
            operation(url)


@pytest.mark.slow
def test_fetch_goes_part_by_part(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(door, "DOWNLOAD_PART", 7)
    storage.publish_bytes(storage.join(folder, "x"), bytes(range(100)))
    storage.fetch(storage.join(folder, "x"), str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == bytes(range(100))


@pytest.mark.parametrize(
    ("url", "names", "joined"),
    [
        ("a/b", ("c",), "a/b/c"),
        ("a/b/", ("c", "d"), "a/b/c/d"),
        ("s3://bucket", ("c",), "s3://bucket/c"),
        ("memory://", ("c",), "memory://c"),
        ("/", ("c",), "/c"),
    ],
)
def test_join(url, names, joined):
    assert storage.join(url, *names) == joined


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("a/b", "a/b"),
        ("/a", "/a"),
        ("file:///a/b", "/a/b"),
        ("s3://a/b", None),
        ("memory://a", None),
        ("simplecache::s3://a", None),
        ("zip::a", None),
        ("./zip::a", "./zip::a"),
        ("/data/a::b/c", "/data/a::b/c"),
        ("a::b", "a::b"),
        ("file:///a::b", "/a::b"),
        ("/a::s3://b", None),
    ],
)
def test_local_path(url, path):
    assert storage.local_path(url) == path


def test_a_folder_may_have_colons_in_its_name(tmp_path):
    folder = str(tmp_path / "a::b")
    storage.publish_bytes(f"{folder}/c", b"0123")
    assert storage.exists(folder)
    assert storage.list_names(folder) == ["c"]
    assert (storage.size(f"{folder}/c"), storage.read_bytes(f"{folder}/c", 1, 3)) == (4, b"12")
    with pytest.raises(StorageError, match=r"'::' chains .* '/a' is none"):
        storage.exists("/a::b://c")


@pytest.mark.slow
def test_a_child_of_the_folders_own_name_is_listed(folder):
    storage.publish_bytes(storage.join(folder, "same", "same", "same"), b"x")
    same = storage.join(folder, "same")
    assert storage.list_names(same) == storage.list_names(storage.join(same, "same")) == ["same"]
    assert storage.list_names(same + "/") == ["same"]


@pytest.mark.slow
@pytest.mark.s3
def test_a_folder_marker_is_not_its_own_child(s3_folder):
    files = S3FileSystem(use_listings_cache=False)
    files.pipe_file(f"{s3_folder}/empty/", b"")
    files.pipe_file(f"{s3_folder}/full/", b"")
    storage.publish_bytes(f"{s3_folder}/full/full", b"x")
    assert storage.list_names(f"{s3_folder}/empty") == []
    assert storage.list_names(f"{s3_folder}/full") == ["full"]


@pytest.mark.slow
@pytest.mark.s3
def test_a_version_of_an_object_is_refused(s3_folder):
    with pytest.raises(StorageError, match="names one version of an object"):
        storage.read_bytes(f"{s3_folder}/a?versionId=3")


@pytest.fixture
def forgotten_clients():
    """What a test made of the environment's credentials, or of their absence, must not serve the next."""
    yield
    forget_clients()


@pytest.mark.slow
@pytest.mark.s3
def test_a_bucket_that_is_open_to_everyone(s3_endpoint, monkeypatch, forgotten_clients):
    folder = f"s3://{OPEN_BUCKET}/{uuid.uuid4().hex}"
    storage.publish_bytes(f"{folder}/a/x", b"0123")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", "/nonexistent")
    forget_clients()
    with pytest.raises(StorageError, match="FSSPEC_S3_ANON=true"):
        storage.list_names(f"{folder}/a")
    config: dict = {}
    set_conf_env(config, {"FSSPEC_S3_ANON": "true"})
    monkeypatch.setitem(fsspec_config, "s3", config["s3"])
    assert storage.list_names(f"{folder}/a") == ["x"]
    assert storage.read_range(f"{folder}/a/x", 1, 3, 4) == b"12"


@pytest.mark.parametrize("error", [errno.EACCES, errno.EIO])
def test_what_the_system_cannot_say_is_no_absence(error, tmp_path, monkeypatch):
    def stat(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    assert [storage.kind(str(tmp_path / name)) for name in ("", "none", "none/x")] == ["folder", None, None]
    assert storage.kind("/dev/null") == "other"
    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(StorageError) as caught:
        storage.kind(str(tmp_path))
    assert not isinstance(caught.value, MissingError)


def test_publishing_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    url = str(tmp_path / "x")
    storage.publish_bytes(url, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    source = str(tmp_path / "source")
    for publish in (lambda: storage.publish_bytes(url, b"new"), lambda: storage.publish_file(source, url)):
        with open(source, "wb") as file:
            file.write(b"new")
        with pytest.raises(StorageError, match="no space left on the disk"):
            publish()
        assert storage.read_bytes(url) == b"old"
        assert set(os.listdir(tmp_path)) <= {"x", "source"}


def test_published_files_have_ordinary_modes(tmp_path):
    old = os.umask(0o027)
    try:
        storage.publish_bytes(str(tmp_path / "x"), b"")
    finally:
        os.umask(old)
    assert os.stat(tmp_path / "x").st_mode & 0o777 == 0o640


def client_error(code: str, status: int) -> ClientError:
    response = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.fixture
def waits(monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waited.append)
    return waited


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("slow"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        client_error("SlowDown", 503),
        client_error("Whatever", 502),
        caused(OSError(errno.EIO, "Internal"), client_error("InternalError", 500)),
        ReadTimeoutError(endpoint_url="http://x"),
        ConnectTimeoutError(endpoint_url="http://x"),
        ConnectionClosedError(endpoint_url="http://x"),
    ],
)
def test_errors_that_pass_are_waited_out(error, waits):
    failures = [error] * 5
    judge = partial(fsspec_errors.judge, url="u")
    done = retries.with_retries(lambda: raise_(failures.pop()) if failures else "done", "u", judge)
    assert done == "done"
    assert len(waits) == 5
    for number, wait in enumerate(waits):
        longest = storage.current_policy().first_wait_s * 2**number
        assert longest / 2 <= wait <= longest


def raise_(error: Exception) -> None:
    raise error


def test_tries_are_bounded_and_said(waits, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("builtins.open", lambda *_a, **_k: raise_(TimeoutError(errno.ETIMEDOUT, "timed out")))
    with caplog.at_level(logging.WARNING), pytest.raises(StorageError, match="gave up after 8 tries"):
        storage.read_bytes(str(tmp_path / "x"))
    assert len(waits) == storage.current_policy().attempts - 1
    assert "try 8 of 8" in caplog.text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (caused(PermissionError("Forbidden"), client_error("403", 403)), "access refused (403)"),
        (
            caused(PermissionError("x"), client_error("InvalidAccessKeyId", 403)),
            "does not accept the AWS credentials",
        ),
        (caused(PermissionError("x"), client_error("AccessDenied", 403)), "access refused (AccessDenied)"),
        (caused(FileNotFoundError("x"), client_error("NoSuchBucket", 404)), "there is no bucket 'bucket'"),
        (NoCredentialsError(), "no AWS credentials"),
        (ImportError("No module named 'x'"), "x'; install the package"),
        (ImportError("Install gcsfs"), "x: Install gcsfs"),
        (
            ParamValidationError(report="Invalid length for parameter Key, value: 0"),
            "give s3://BUCKET/PREFIX (Parameter validation failed: Invalid length for parameter Key",
        ),
    ],
)
def test_errors_that_do_not_pass_fail_at_once(error, text, waits, monkeypatch):
    monkeypatch.setattr(choose, "may_use", lambda: False)  # obstore's are in its own test
    monkeypatch.setattr(fsspec_backend, "open_filesystem", lambda _: raise_(error))
    with pytest.raises(StorageError) as caught:
        storage.read_bytes("s3://bucket/x")
    assert str(caught.value).startswith("s3://bucket/x: ")
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert waits == []


def test_a_wrong_endpoint_is_tried_less_often(waits, monkeypatch):
    monkeypatch.setattr(choose, "may_use", lambda: False)
    monkeypatch.setattr(
        fsspec_backend, "open_filesystem", lambda _: raise_(EndpointConnectionError(endpoint_url="http://x"))
    )
    with pytest.raises(StorageError, match="check AWS_ENDPOINT_URL"):
        storage.read_bytes("s3://bucket/x")
    assert len(waits) == fsspec_errors.TRIES_TO_CONNECT - 1


def test_unknown_kind_of_url():
    with pytest.raises(StorageError, match="unknown kind of URL"):
        storage.read_bytes("nonsense://x")


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(MissingError("x: no bucket", bucket=True)))
    assert (str(error), error.bucket) == ("x: no bucket", True)


@pytest.fixture
def flaky_endpoint(s3_endpoint, monkeypatch):
    """A store whose every other answer is a failure: throttling, an error, half a body, a reset."""
    answers: list[str] = []
    failures = ["slow down", "bad gateway", "cut", "reset"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            fails = len(answers) % 2 == 0
            answer = failures[len(answers) // 2 % len(failures)] if fails else "fine"
            answers.append(answer)
            if answer == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                return
            self.send_response({"slow down": 503, "bad gateway": 502}.get(answer, 200))
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"da" if answer == "cut" else b"data")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(storage_policy, "_policy", StoragePolicy(first_wait_s=0.01))
    forget_clients()
    yield answers
    forget_clients()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
@pytest.mark.s3
def test_a_flaky_store_is_read_in_the_end(flaky_endpoint):
    for _ in range(4):
        assert storage.read_bytes("s3://bucket/x") == b"data"
    assert flaky_endpoint == ["slow down", "fine", "bad gateway", "fine", "cut", "fine", "reset", "fine"]


@pytest.mark.slow
@pytest.mark.s3
def test_a_bucket_that_does_not_exist(s3_endpoint):
    url = "s3://no-such-bucket/x"
    operations = (
        storage.read_bytes,
        storage.size,
        storage.list_names,
        lambda url: storage.publish_bytes(url, b"x"),
        lambda url: storage.read_many([url, url]),
    )
    for operation in operations:
        with pytest.raises(MissingError, match="there is no bucket 'no-such-bucket'") as caught:
            operation(url)
        assert caught.value.bucket


@pytest.mark.slow
@pytest.mark.s3
def test_large_files_go_up_in_parts(s3_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(fsspec_backend, "UPLOAD_PART", 5 * 2**20)
    data = os.urandom(11 * 2**20)
    (tmp_path / "x").write_bytes(data)
    storage.publish_file(str(tmp_path / "x"), s3_folder + "/x")
    assert storage.read_bytes(s3_folder + "/x") == data


@pytest.mark.slow
@pytest.mark.s3
def test_s3_works_on_both_sides_of_a_fork(s3_folder):
    storage.publish_bytes(s3_folder + "/x", b"data")
    assert storage.read_bytes(s3_folder + "/x") == b"data"
    child = os.fork()
    if child == 0:
        os._exit(0 if storage.read_bytes(s3_folder + "/x") == b"data" else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert storage.read_bytes(s3_folder + "/x") == b"data"
    storage.publish_bytes(s3_folder + "/x", b"more")  # by the client that the child had too
