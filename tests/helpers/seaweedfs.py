"""A SeaweedFS on 127.0.0.1: a real store with S3's protocol, which checks signatures.

python seaweedfs.py FOLDER OWNER runs one for as long as the process OWNER lives, and removes the folder then.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "testkey", "testsecret"
NEXT_KEY, NEXT_SECRET = "nextkey", "nextsecret"  # good too
PROGRAM = Path(sys.executable).with_name("weed")
BUCKET = "tests"
OPEN_BUCKET = "open"  # a bucket that everyone may read and list
OWNER = "VOXSHARD_TESTS_OWNER"
"""The variable with the id of the process whose end is that of the store of `shared`."""
_PATIENCE_S = 120.0
_GRPC = 10_000  # its gRPC ports are so much higher


def shared() -> str:
    """The endpoint of one that all processes of a run of tests share, with a bucket called BUCKET."""
    owner = os.environ[OWNER]
    folder = Path(tempfile.gettempdir()) / f"seaweedfs-of-{owner}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ready = folder / "endpoint"
        if not ready.exists():
            with (folder / "said").open("wb") as said:
                process = subprocess.Popen(
                    [sys.executable, str(Path(__file__)), str(folder), owner],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    start_new_session=True,
                )
            while not ready.exists():
                assert process.poll() is None, (folder / "said").read_text(errors="replace")
                time.sleep(0.05)
        return ready.read_text()


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """Its endpoint, while it runs with its files in `folder`."""
    with running(folder) as (endpoint, _):
        yield endpoint


@contextlib.contextmanager
def running(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same with more options for `weed server`, and its process."""
    data, identities = folder / "data", folder / "s3.json"
    data.mkdir(parents=True)
    pairs = ((ACCESS_KEY, SECRET_KEY), (NEXT_KEY, NEXT_SECRET))
    credentials = [{"accessKey": key, "secretKey": secret} for key, secret in pairs]
    actions = ["Admin", "Read", "Write", "List"]
    identity = {"name": "test", "credentials": credentials, "actions": actions}
    anyone = {"name": "anonymous", "actions": [f"Read:{OPEN_BUCKET}", f"List:{OPEN_BUCKET}"]}
    identities.write_text(json.dumps({"identities": [identity, anyone]}))
    ports = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
    command = [
        *(str(PROGRAM), f"-logdir={folder}", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.volumeSizeLimitMB=1024", "-master.telemetry=false", "-volume.max=1000"),
        *("-filer", "-filer.maxMB=64", "-s3", f"-s3.config={identities}"),
        "-s3.autoCreateBucket=false",
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}.port={port}" for name, port in ports.items()),
        *options,
    ]
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    endpoint = f"http://127.0.0.1:{ports['s3']}"
    try:
        end = time.monotonic() + _PATIENCE_S
        while not answers(endpoint):
            said = (folder / "out").read_text(errors="replace")[-2000:]
            assert process.poll() is None, said
            assert time.monotonic() < end, said
            time.sleep(0.2)
        for bucket in (BUCKET, OPEN_BUCKET):  # a bucket is a folder of its filer's
            address = f"http://127.0.0.1:{ports['filer']}/buckets/{bucket}/"
            urllib.request.urlopen(urllib.request.Request(address, method="POST"), timeout=30).close()
        yield endpoint, process
    finally:
        process.kill()
        process.wait()
        for port in ports.values():  # which it puts there, wherever its files are
            for number in (port, port + _GRPC):
                for path in glob.glob(f"/tmp/seaweedfs-*-{number}.sock"):
                    Path(path).unlink(missing_ok=True)


def answers(endpoint: str) -> bool:
    """Whether it knows who asks; a refusal will do."""
    try:
        urllib.request.urlopen(endpoint, timeout=5)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Their gRPC ports, 10,000 above, are free too."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < count:
            one, two = held.enter_context(socket.socket()), held.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            if port + _GRPC < 65_536:
                with contextlib.suppress(OSError):
                    two.bind(("127.0.0.1", port + _GRPC))
                    found.append(port)
    return found


def main() -> None:
    folder, owner = Path(sys.argv[1]), int(sys.argv[2])
    with running(folder / "store") as (endpoint, process):
        (folder / "draft").write_text(endpoint)
        (folder / "draft").rename(folder / "endpoint")
        while Path(f"/proc/{owner}").exists() and process.poll() is None:
            time.sleep(0.2)
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
