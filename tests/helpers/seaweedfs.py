"""A SeaweedFS on 127.0.0.1: a real store with S3's protocol, which checks signatures."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "testkey", "testsecret"
OPEN = "open"  # a bucket that everyone may read, if it is made
PROGRAM = Path(sys.executable).with_name("weed")
_PATIENCE_S = 120.0


@contextlib.contextmanager
def seaweedfs(folder: Path) -> Iterator[str]:
    """Its endpoint, while it runs with its files in `folder`."""
    data, identities = folder / "data", folder / "s3.json"
    data.mkdir(parents=True)
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List"]
    identity = {"name": "test", "credentials": credentials, "actions": actions}
    everyone = {"name": "anonymous", "actions": [f"Read:{OPEN}"]}
    identities.write_text(json.dumps({"identities": [identity, everyone]}))
    ports = dict(zip(("master", "volume", "filer", "s3"), free_ports(4), strict=True))
    command = [
        *(str(PROGRAM), f"-logdir={folder}", "server", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.volumeSizeLimitMB=1024", "-master.telemetry=false", "-volume.max=100"),
        *("-filer", "-filer.maxMB=64", "-s3", f"-s3.config={identities}"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}.port={port}" for name, port in ports.items()),
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
        yield endpoint
    finally:
        process.kill()
        process.wait()


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
            if port + 10_000 < 65_536:
                with contextlib.suppress(OSError):
                    two.bind(("127.0.0.1", port + 10_000))
                    found.append(port)
    return found
