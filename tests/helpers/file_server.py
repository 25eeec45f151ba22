"""A server of files on this machine, with Basic auth, keys and ranges, that harms answers as it is told."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

# What a GET can meet, besides any status from 400 on:
#   "drop": half of what was asked for, then a reset; "early": the same, then an orderly end
#   "short": half of the file as if it were the whole; "wrong": one bit of another value
#   "page": a web page instead of the file; "slow": the end comes only when `slow` is set
#   "http…": a redirect to there


class FileServer:
    """Serves `files` (name → bytes) at /NAME and at /get?file=NAME.

    faults[name]: what GETs of it meet, one after the other; then none. Every GET's (name, first byte
    asked for, or None) is in `asked`, the parameters of its URL and its headers in `seen`.
    """

    def __init__(
        self,
        files: dict[str, bytes],
        *,
        login: tuple[str, str] | None = None,
        key: str | None = None,
        ranges: bool = True,
        sizes: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.files = files
        self.login = login
        self.key = key
        self.ranges = ranges
        self.sizes = sizes  # whether HEAD is answered
        self.faults: dict[str, list[str | int]] = defaultdict(list)
        self.always: dict[str, str | int] = {}
        self.asked: list[tuple[str, int | None]] = []
        self.seen: list[str] = []
        self.slow = threading.Event()
        self.lock = threading.Lock()
        owner = self

        class Handler(_Handler):
            server_of_files = owner

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def handle_error(self, *arguments: object) -> None:
                """A client that hangs up is nothing to report."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' * (tls is not None)}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.slow.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def serving(files: dict[str, bytes], **options: object) -> Iterator[FileServer]:
    server = FileServer(files, **options)  # type: ignore[arg-type]
    try:
        yield server
    finally:
        server.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_files: FileServer

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        if not self.server_of_files.sizes:
            self._status(405)
            return
        self._answer(head=True)

    def do_GET(self) -> None:
        self._answer(head=False)

    def _answer(self, *, head: bool) -> None:
        server = self.server_of_files
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        name = query["file"][0] if parts.path == "/get" else unquote(parts.path.rpartition("/")[2])
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fault = None
        with server.lock:
            server.seen.append(f"{self.path} {self.headers}")
            if not head:
                server.asked.append((name, int(wanted[1]) if wanted else None))
                fault = server.faults[name].pop(0) if server.faults[name] else server.always.get(name)
        if server.login is not None:
            expected = "Basic " + base64.b64encode(":".join(server.login).encode()).decode()
            if self.headers.get("Authorization") != expected:
                self._status(401)
                return
        if server.key is not None and query.get("key") != [server.key]:
            self._status(403)
            return
        if isinstance(fault, int):
            self._status(fault)
        elif name not in server.files:
            self._status(404)
        elif isinstance(fault, str) and fault.startswith("http"):
            self._send(302, b"", {"Location": fault})
        elif fault == "page":
            self._send(200, b"<html>your key has expired</html>", {"Content-Type": "text/html"})
        else:
            self._file(server.files[name], int(wanted[1]) if wanted and server.ranges else None, fault, head)

    def _file(self, data: bytes, first: int | None, fault: str | None, head: bool) -> None:
        size = len(data)
        if fault == "wrong":
            data = bytes([data[0] ^ 1]) + data[1:-1] + bytes([data[-1] ^ 1])
        if fault == "short":
            size //= 2
            data = data[:size]
        headers = {"Content-Type": "application/octet-stream"}
        if first is None:
            status, body = 200, data
        elif first >= size:
            self._send(416, b"", {"Content-Range": f"bytes */{size}"})
            return
        else:
            status, body = 206, data[first:]
            headers["Content-Range"] = f"bytes {first}-{size - 1}/{size}"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if head:
            return
        if fault in ("drop", "early", "slow"):
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            if fault == "slow":
                self.server_of_files.slow.wait(60)
                with contextlib.suppress(OSError):
                    self.wfile.write(body[len(body) // 2 :])
            elif fault == "drop":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
            self.close_connection = True
            return
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def _status(self, status: int) -> None:
        headers = {"WWW-Authenticate": 'Basic realm="x"'} if status == 401 else {}
        self._send(status, b"", {**headers, **({"Retry-After": "0"} if status == 429 else {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
