"""What a fork leaves of a client: obstore's hangs in the child of a process that has read by it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from project import REPO

from shard_tools import storage
from shard_tools.storage import forks
from shard_tools.storage.backends import obstore_clients

pytestmark = [pytest.mark.s3, pytest.mark.slow]

# Prints what each process reads by; the child is given 60 s, which it would need for ever if it hung.
PROGRAM = """
import multiprocessing, sys
from shard_tools import storage
from shard_tools.storage.backends import place_at

def read(kept=False):
    if kept:
        storage.keep_forkable()
    data = bytes(storage.read_range(sys.argv[1], 2, 5, 10))
    print(type(place_at(sys.argv[1])).__name__, data.decode(), storage.forkable(), flush=True)

def start(method, *arguments):
    process = multiprocessing.get_context(method).Process(target=read, args=arguments)
    process.start()
    process.join(60)
    assert process.exitcode == 0, process.exitcode
    process.kill()

if __name__ == "__main__":
"""


# The same by obstore alone, with stores of the children's own.
RAW = """
import multiprocessing, os, sys
import obstore
from obstore.store import S3Store

def read():
    bucket, _, key = sys.argv[1].removeprefix("s3://").partition("/")
    config = {"endpoint": os.environ["AWS_ENDPOINT_URL"], "virtual_hosted_style_request": False}
    store = S3Store(bucket, config=config, client_options={"allow_http": True})
    return bytes(obstore.get(store, key, options={"range": (2, 5)}).bytes())

def child():
    assert read() == b"234"

def start(seconds):
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(seconds)
    print("hangs" if process.is_alive() else process.exitcode, flush=True)
    process.kill()
    process.join()

if __name__ == "__main__":
    start(60)
    print(read().decode(), flush=True)
    start(4)
"""


def said(url, *lines):
    program = PROGRAM + "".join(f"    {line}\n" for line in lines)
    done = subprocess.run(
        [sys.executable, "-c", program, url],
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def url(s3_folder):
    storage.publish_bytes(f"{s3_folder}/x", b"0123456789")
    return f"{s3_folder}/x"


def test_a_child_of_one_that_has_read_reads_by_fsspec(url):
    assert said(url, "read()", "start('fork')", "read()") == [
        "ObstorePlace 234 False",
        "FsspecPlace 234 False",
        "ObstorePlace 234 False",
    ]


def test_obstore_itself_would_hang_there(url):
    """Should it once not hang, nor fail, there is no need for forks.py any more.

    What becomes of the parent in the end is its own affair: once it was killed for a damaged heap.
    """
    done = subprocess.run(
        [sys.executable, "-c", RAW, url], cwd=REPO, capture_output=True, text=True, timeout=60, check=False
    )
    before, here, after = done.stdout.splitlines()
    assert (before, here) == ("0", "234"), done.stderr
    assert after != "0"


def test_one_that_is_to_fork_reads_by_fsspec_and_its_children_do_not(url):
    assert said(url, "read(True)", "start('fork')", "start('fork', True)", "read()") == [
        "FsspecPlace 234 True",
        "ObstorePlace 234 False",
        "FsspecPlace 234 True",
        "FsspecPlace 234 True",
    ]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_process_that_begins_anew_reads_by_obstore(url, method, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM + f"    read()\n    start({method!r})\n")
    done = subprocess.run(
        [sys.executable, str(program), url],
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.stdout.splitlines() == ["ObstorePlace 234 False"] * 2, done.stderr


def test_one_that_is_to_fork_opens_by_a_fork_what_it_would_read_slowly(s3_folder, tmp_path):
    """And loads no client that it needs none of; its readers ask nobody again for the bucket's address."""
    from wav_files import tone, wav

    from shard_tools.pack.packing import pack

    (tmp_path / "audio/id1").mkdir(parents=True)
    (tmp_path / "audio/id1/a.wav").write_bytes(wav(pcm=tone(1600).tobytes()))
    pack(str(tmp_path / "audio"), f"{s3_folder}/set")
    storage.publish_bytes(f"{s3_folder}/x", b"0123456789")
    program = f"""
import multiprocessing, sys
from shard_tools import storage
from shard_tools.dataset.catalogue import open_catalogue
from shard_tools.storage.backends import obstore_clients, place_at

url = {s3_folder!r}
storage.keep_forkable()
storage.ready_forks([url])
catalogue = open_catalogue(url + "/set")
print(len(catalogue), catalogue.key(0), "s3fs" in sys.modules, storage.forkable())

def read():
    obstore_clients.find_bucket = None
    print(type(place_at(url)).__name__, bytes(storage.read_range(url + "/x", 2, 5, 10)), flush=True)

process = multiprocessing.get_context("fork").Process(target=read)
process.start()
process.join(60)
assert process.exitcode == 0
try:
    open_catalogue(url + "/absent")
except storage.MissingError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.splitlines()
    assert first == "1 id1/a False True"
    assert second == "ObstorePlace b'234'"
    assert third.startswith(f"{s3_folder}/absent/manifest.json: does not exist; ")


def test_a_child_knows_what_its_parent_has_used(monkeypatch):
    for name in ("_used", "_kept", "_inherited"):
        monkeypatch.setattr(forks, name, False)
    assert storage.forkable()
    storage.keep_forkable()
    assert not forks.may_use()
    forks._in_child()
    assert forks.may_use()
    forks.use()
    assert forks.may_use()
    assert not storage.forkable()
    forks._in_child()
    assert not forks.may_use()
    forks._in_child()
    assert not forks.may_use()


def test_a_child_that_is_forked_while_a_thread_makes_a_client_makes_none(monkeypatch):
    """It would wait for a lock that nobody holds there."""
    for name in ("_used", "_kept", "_inherited"):
        monkeypatch.setattr(forks, name, False)
    monkeypatch.setattr(forks, "_readying", set())
    monkeypatch.setattr(obstore_clients, "_make", lambda bucket: forks._in_child())
    assert obstore_clients.client_of("s3://forked-meanwhile/x") is None
    assert not forks.may_use()
    obstore_clients.forget()
