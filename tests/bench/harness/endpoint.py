"""The S3 endpoint seen from the benchmarks: started, filled and asked for its counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "bench"


class Endpoint:
    """A running endpoint; `environment` lets AWS's libraries find it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.environment = {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
        }

    def counts(self) -> dict[str, int]:
        """Requests for objects and bytes sent, since the start."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.address}/-/counts") as answer:
            return dict(json.load(answer))

    def upload(self, folder: Path, prefix: str) -> None:
        """Every file below `folder` to s3://BUCKET/prefix/."""
        import boto3

        store = boto3.client(
            "s3",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        store.create_bucket(Bucket=BUCKET)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                with path.open("rb") as file:
                    key = f"{prefix}/{path.relative_to(folder)}"
                    # curl, for one, comes without a signature
                    store.put_object(Bucket=BUCKET, Key=key, Body=file, ACL="public-read")


@contextmanager
def endpoint(cpu: int | None) -> Iterator[Endpoint]:
    """An endpoint in another process, kept off the contestants' core where there is another."""
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("s3_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        others = os.sched_getaffinity(0) - {cpu}
        if others:
            os.sched_setaffinity(server.pid, others)
        address = server.stdout.readline().strip()  # type: ignore[union-attr]
        if not address:
            raise RuntimeError("the S3 endpoint did not start: is moto[server] installed?")
        yield Endpoint(address)
    finally:
        server.kill()
        server.communicate()
