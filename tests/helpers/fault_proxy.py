"""An S3 endpoint in front of another one, which forwards requests and does harm to some of the answers."""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# Those after the first five need a request for a range.
KINDS = (
    "error",  # 500
    "slow_down",  # 503 with S3's SlowDown
    "reset",  # the connection, before any answer
    "truncated",  # half of the body, then the end
    "stalled",  # half of the body, then nothing
    "wrong_range",  # other bytes, and a header that says so
    "wrong_bytes",  # other bytes, and a header that does not: a checksum alone can tell
    "whole",  # the whole object with 200, as of a server that knows no ranges
)
_RANGED = ("wrong_range", "wrong_bytes", "whole")
WRITING = ("error", "slow_down", "reset", "lost")  # of other requests; lost: done, and the answer is not sent
_INVERTED = bytes(range(255, -1, -1))
_ERRORS = {"error": (500, "InternalError"), "slow_down": (503, "SlowDown")}


class FaultProxy:
    """Every GET (or what `methods` names) fails with probability `rate`, in all of `kinds` equally often.

    requests: such ones so far; faults: how many of each kind they met. No byte is lied about
    (wrong_bytes) more than once, since one more read is all that readers owe it.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (str(parts.hostname), parts.port)
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._lies: list[tuple[str, int, int]] = []
        self.expired: str | None = None  # whoever signs with this in the header is told that it has expired
        self.headers: dict[str, str] = {}  # of the latest request
        self.requests = 0
        self.faults: Counter[str] = Counter()
        self.set_faults(0)
        proxy = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                self.answer(proxy)

            do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def set_faults(
        self, rate: float, kinds: Sequence[str] = KINDS, seed: int = 0, methods: Sequence[str] = ("GET",)
    ) -> None:
        """Do harm at another rate from now on; counters go on."""
        with self._lock:
            self._rate, self._kinds, self._due = rate, tuple(kinds), list[str]()
            self.methods = tuple(methods)
            self._random = random.Random(seed)

    def stop(self) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def draw(self, path: str, asked: tuple[int, int] | None) -> str | None:
        """The fault that this request is to meet."""
        with self._lock:
            self.requests += 1
            if self._random.random() >= self._rate:
                return None
            if not self._due:
                self._due = self._random.sample(self._kinds, len(self._kinds))
            for number, kind in enumerate(self._due):
                if kind in _RANGED and asked is None:
                    continue
                if kind == "wrong_bytes" and path.endswith(".json"):  # which nobody has the sums of
                    continue
                if kind == "wrong_bytes" and asked is not None:
                    if any(path == p and asked[0] < e and s < asked[1] for p, s, e in self._lies):
                        continue
                    self._lies.append((path, *asked))
                del self._due[number]
                self.faults[kind] += 1
                return kind
            return None

    def wait_for(self, connection: socket.socket) -> None:
        """Until the client hangs up, or the proxy stops."""
        connection.settimeout(0.1)
        while not self._stopped.is_set():
            try:
                if not connection.recv(1024):
                    return
            except TimeoutError:
                continue
            except OSError:
                return

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection(*self._upstream, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer, answer.read()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, proxy: FaultProxy) -> None:
        headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = _range(self.headers.get("Range"))
        proxy.headers = {name.lower(): value for name, value in headers.items()}
        if proxy.expired is not None and proxy.expired in self.headers.get("Authorization", ""):
            self._send(400, {"Content-Type": "application/xml"}, _error_xml("ExpiredToken"))
            return
        fault = proxy.draw(self.path, asked) if self.command in proxy.methods else None
        if fault == "lost":
            proxy.forward(self.command, self.path, headers, body)
        if fault in ("reset", "lost"):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if fault in _ERRORS:
            status, code = _ERRORS[fault]
            self._send(status, {"Content-Type": "application/xml"}, _error_xml(code))
            return
        answer, data = proxy.forward(self.command, self.path, headers, body)
        sent = {
            name: value
            for name, value in answer.getheaders()
            if name.lower() not in ("content-length", "connection", "transfer-encoding", "date", "server")
        }
        status = answer.status
        if asked is not None and status == 206 and fault in _RANGED:
            # Made here, not by asking for another range: some stores check the signature of what was asked.
            data = data.translate(_INVERTED)
            found = answer.headers["Content-Range"]
            total = int(found.rpartition("/")[2])
            sent = {name: value for name, value in sent.items() if name.lower() != "content-range"}
            if fault == "whole":
                status = 200
                data = bytes(asked[0]) + data + bytes(total - asked[0] - len(data))
            elif fault == "wrong_range":
                shift = 7 if asked[0] < 7 else -7
                sent["Content-Range"] = f"bytes {asked[0] + shift}-{asked[1] - 1 + shift}/{total}"
            else:
                sent["Content-Range"] = found
        length = int(answer.headers["Content-Length"]) if self.command == "HEAD" else len(data)
        if fault in ("truncated", "stalled"):
            self._send(status, sent, data[: length // 2], length)
            if fault == "stalled":
                proxy.wait_for(self.connection)
            self.close_connection = True
            return
        self._send(status, sent, data, length)

    def _send(self, status: int, headers: dict[str, str], data: bytes, length: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have gone
            self.wfile.write(data)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


def _range(header: str | None) -> tuple[int, int] | None:
    """[start, end) of a Range header that gives both."""
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", header or "")
    return (int(found[1]), int(found[2]) + 1) if found else None


def _error_xml(code: str) -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>no</Message></Error>'
    ).encode()
