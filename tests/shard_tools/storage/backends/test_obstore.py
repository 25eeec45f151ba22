"""What a store does wrong, and what is said of it: by obstore as by s3fs."""

from __future__ import annotations

import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from obstore.exceptions import GenericError
from s3_settings import forget_clients

from shard_tools import storage
from shard_tools.storage import MissingError, ShortError, StorageError, StoragePolicy
from shard_tools.storage.backends import choose, obstore_errors, place_at
from shard_tools.storage.backends.fsspec import FsspecPlace
from shard_tools.storage.backends.obstore import ObstorePlace

pytestmark = [pytest.mark.s3, pytest.mark.slow]

SIZE = "<LastModified>2026-01-01T00:00:00Z</LastModified><Size>1</Size>"
DATA = bytes(range(256)) * 40


@pytest.fixture(params=["obstore", "s3fs"])
def url(request, s3_folder, faulty_s3, storage_policy, monkeypatch):
    """An object behind the proxy, read by either client."""
    if request.param == "s3fs":
        monkeypatch.setattr(choose, "may_use", lambda: False)
    storage_policy(StoragePolicy(attempts=4, first_wait_s=0.01, read_timeout_s=1, connect_timeout_s=2))
    url = f"{s3_folder}/shard.tar"
    storage.publish_bytes(url, DATA)
    assert isinstance(place_at(url), ObstorePlace if request.param == "obstore" else FsspecPlace)
    return url


def read(url):
    return storage.read_range(url, 1000, 3000, len(DATA))


@pytest.mark.parametrize(
    "kind", ["error", "slow_down", "reset", "truncated", "stalled", "wrong_range", "whole"]
)
def test_what_may_pass_is_tried_again(url, faulty_s3, kind):
    faulty_s3.set_faults(0.5, [kind], seed=3)
    assert all(read(url) == DATA[1000:3000] for _ in range(4))
    assert faulty_s3.faults[kind] > 0


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("error", "gave up after 4 tries .*; the store is out of reach or overloaded"),
        ("slow_down", "gave up after 4 tries"),
        ("reset", "gave up after 4 tries|cannot connect"),
        ("truncated", "gave up after 4 tries"),
        ("stalled", "gave up after 4 tries"),
        ("wrong_range", "4 times; whatever answers there cannot serve parts of objects"),
        ("whole", "4 times; whatever answers there cannot serve parts of objects"),
    ],
)
def test_what_does_not_pass_is_said(url, faulty_s3, kind, words):
    before = faulty_s3.requests
    faulty_s3.set_faults(1, [kind])
    with pytest.raises(StorageError, match=f"{url}: .*({words})") as caught:
        read(url)
    # No client tries again by itself, but for s3fs's where a connection that was kept is lost.
    by_s3fs = isinstance(place_at(url), FsspecPlace)
    assert faulty_s3.requests - before == 4 or (by_s3fs and kind == "reset")
    assert caught.value.passing
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("kind", ["wrong_range", "whole", "truncated"])
def test_a_part_of_a_small_file_is_the_part_that_was_asked_for(url, faulty_s3, kind, storage_policy):
    storage_policy(StoragePolicy(attempts=20, first_wait_s=0.001))
    faulty_s3.set_faults(0.5, [kind], seed=3)
    for start, end in ((1000, 3000), (1000, None), (None, 300)):
        assert all(storage.read_bytes(url, start, end) == DATA[start:end] for _ in range(4))
    assert faulty_s3.faults[kind] > 0


def test_nothing_there(url, faulty_s3):
    missing = url.replace("shard.tar", "none.tar")
    for ask in (storage.size, storage.read_bytes, lambda url: storage.read_range(url, 0, 1, 1)):
        with pytest.raises(MissingError, match=f"{missing}: does not exist") as caught:
            ask(missing)
        assert not caught.value.bucket
    nowhere = "s3://no-such-bucket/x"
    for ask in (storage.read_bytes, storage.list_names, lambda url: storage.read_range(url, 0, 1, 1)):
        with pytest.raises(MissingError, match="there is no bucket 'no-such-bucket'") as caught:
            ask(nowhere)
        assert caught.value.bucket


def test_beyond_the_end(url):
    with pytest.raises(ShortError, match=f"ends at byte {len(DATA)}, the manifest says 20000"):
        storage.read_range(url, 10_000, 10_300, 20_000)
    with pytest.raises(ShortError):
        storage.read_range(url, 15_000, 15_300, 20_000)


def test_nobody_listens(url, monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        forget_clients()
        with pytest.raises(StorageError, match=r"cannot connect \(.*\); check AWS_ENDPOINT_URL and the net"):
            read(url)


def test_a_range_of_nothing_and_one_behind_the_end(s3_folder):
    place = place_at(f"{s3_folder}/x")
    place.write(b"0123456789")
    assert (place.read(3, 3), place.read(20, 30), place.read(20, None)) == (b"", b"", b"")


@pytest.mark.parametrize("key", ["a//b", "/a", "a/../b", "a/./b", "line\nfeed", "x?versionId=1"])
def test_keys_that_obstore_cannot_name_are_fsspecs(s3_folder, key):
    assert isinstance(place_at(f"{s3_folder}/{key}"), FsspecPlace)


def test_unknown_errors_are_said_in_their_words():
    found = obstore_errors.translated(ValueError("odd"))
    assert isinstance(found, ValueError)
    verdict = obstore_errors.judge(found, "s3://b/x")
    assert (verdict.advice, verdict.passing) == ("ValueError: odd", False)


def tls(error: str) -> str:
    return f"HTTP error: error sending request\n inner: HttpError {{ kind: Connect, error: {error}(\n Why,\n)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (tls("InvalidCertificate"), "certificate that answers is not accepted .*Why.*AWS_CA_BUNDLE"),
        (tls("InvalidMessage"), r"cannot connect \(it speaks no TLS\); check AWS_ENDPOINT_URL"),
        (
            "Received redirect without LOCATION",
            r"another region .*\(PermanentRedirect\).* AWS_DEFAULT_REGION",
        ),
        ("status code: 400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>", "AWS_DEFAULT_REGION"),
        ("status code: 403 Forbidden: <Code>InvalidObjectState</Code>", "archived .*; restore it"),
    ],
)
def test_what_is_said_names_a_remedy(words, said):
    verdict = obstore_errors.judge(obstore_errors.translated(GenericError(words)), "s3://b/x")
    assert re.search(said, verdict.advice)


@pytest.mark.parametrize(
    ("scheme", "refused", "unreachable"),
    [
        ("gs", r"GOOGLE_APPLICATION_CREDENTIALS", "check the network$"),
        (
            "az",
            r"AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
            "check AZURE_STORAGE_ACCOUNT_NAME and the network$",
        ),
    ],
)
def test_stores_of_others_are_not_amazons(scheme, refused, unreachable):
    for words, said in (
        ("status code: 403 Forbidden", refused),
        ("HTTP error: error sending request\n kind: Connect", unreachable),
    ):
        error = obstore_errors.translated(GenericError(words))
        advice = obstore_errors.judge(error, f"{scheme}://b/x").advice
        assert re.search(said, advice)
        assert "AWS" not in advice


@pytest.mark.parametrize("obstore", [True, False])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000", "AWS_ENDPOINT_URL, or .* must be like https://host:port"),
        ("AWS_PROFILE", "none-such", "none-such.*; check AWS_PROFILE and ~/.aws/config"),
    ],
)
def test_settings_that_make_no_sense(monkeypatch, s3_endpoint, obstore, name, value, said):
    monkeypatch.setattr(choose, "may_use", lambda: obstore)
    monkeypatch.setenv(name, value)
    forget_clients()
    with pytest.raises(StorageError, match=said):
        storage.read_bytes("s3://b/x")
    forget_clients()


@pytest.fixture
def odd_keys(monkeypatch, s3_endpoint):
    """The URL of a folder on a store that keeps keys as they are: set//x, set/a//b and set/c."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            keys = ("set//x", "set/a//b", "set/c")
            below = [key for key in keys if key.startswith(asked["prefix"][0])]
            found = "".join(f"<Contents><Key>{key}</Key>{SIZE}</Contents>" for key in below)
            if "delimiter" in asked:
                folders = ("set//", "set/a/")
                found = "".join(
                    f"<CommonPrefixes><Prefix>{each}</Prefix></CommonPrefixes>" for each in folders
                )
                found += f"<Contents><Key>set/c</Key>{SIZE}</Contents>"
            answer = f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.01]).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    forget_clients()
    yield "s3://bucket/set"
    forget_clients()
    server.shutdown()
    server.server_close()


def test_a_listing_with_a_key_that_obstore_cannot_name(odd_keys):
    assert isinstance(place_at(odd_keys), ObstorePlace)
    assert storage.exists(odd_keys)
    assert storage.list_names(odd_keys) == ["a", "c"]
