"""An S3 endpoint on 127.0.0.1 that counts: moto's server in a process of its own.

python s3_server.py prints its address and serves until its standard input closes.
GET /-/counts answers {"requests", "bytes"}: requests for objects, and the bytes sent in answer.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class Counting:
    """A WSGI application around another that counts GET and HEAD requests and the bytes of their answers."""

    def __init__(self, inner: Application) -> None:
        self._inner = inner
        self._lock = threading.Lock()
        self.requests = self.bytes = 0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/-/counts":
            body = json.dumps({"requests": self.requests, "bytes": self.bytes}).encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]

        def counted(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
                length = {name.lower(): value for name, value in headers}.get("content-length", "0")
                with self._lock:
                    self.requests += 1
                    self.bytes += int(length) if environ["REQUEST_METHOD"] == "GET" else 0
            return start_response(status, headers, *rest)

        return self._inner(environ, counted)


def main() -> None:
    application = Counting(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
