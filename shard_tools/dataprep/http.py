"""Asking one server once for a file, from some byte on, and what its answer means. The client is requests."""

from __future__ import annotations

import contextlib
import logging
import re
import ssl
import threading
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from shard_tools.dataprep.credentials import Credentials
from shard_tools.dataprep.files import CHUNK
from shard_tools.version import version

# It would write whole URLs, keys among them, into a log of all that is said.
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)

_CONTENT_RANGE = re.compile(r"bytes (?:(?P<first>\d+)-\d+|\*)/(?P<size>\d+|\*)")
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504, 509, 520, 521, 522, 523, 524})
_LONGEST_WAIT_S = 600.0  # that a server may ask for


class PassingError(Exception):
    """What may pass. wait_s: how long the server asks to wait, if it does."""

    def __init__(self, text: str, wait_s: float | None = None) -> None:
        super().__init__(text)
        self.wait_s = wait_s


class RefusedError(Exception):
    """What does not pass. missing: the server has no such file; for_all: nor will it give any other."""

    def __init__(self, text: str, *, missing: bool = False, for_all: bool = False) -> None:
        super().__init__(text)
        self.missing = missing
        self.for_all = for_all


class OutOfRangeError(Exception):
    """The server has no byte from there on. size: of what it has, where it says so."""

    def __init__(self, size: int | None) -> None:
        super().__init__(f"size {size}")
        self.size = size


def address(mirror: str, name: str, credentials: Credentials) -> str:
    """The URL of file `name` at a mirror: "{name}" in it is replaced, else the name is appended.

    With the key, as `with_key` has it: never to be shown.
    """
    if "{name}" in mirror:
        return with_key(mirror.replace("{name}", quote(name, safe="")), credentials)
    return with_key(f"{mirror.rstrip('/')}/{quote(name)}", credentials)


def with_key(url: str, credentials: Credentials) -> str:
    """`url` with the key, if there is one, in place of "{key}" in it, else as its parameter `key`."""
    key = credentials.key
    if "{key}" in url:
        return url.replace("{key}", quote(key or "", safe=""))
    if key is None:
        return url
    parts = urlsplit(url)
    query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("key", key)])
    return urlunsplit(parts._replace(query=query))


class Body:
    """An answer: bytes `start` and on of a file of `size` bytes (None: not said)."""

    def __init__(self, response: requests.Response, start: int, size: int | None) -> None:
        self._response = response
        self.start = start
        self.size = size

    def chunks(self) -> Iterator[bytes]:
        """Its bytes as they come; PassingError when the connection drops."""
        try:
            # As much as one read of the socket brings: what came before a drop is not lost.
            while data := self._response.raw.read1(CHUNK, decode_content=False):
                yield data
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PassingError(_dropped(error)) from None

    def close(self) -> None:
        """Give the connection up, or back where all was read."""
        self._response.close()

    def shut(self) -> None:
        """From another thread: end the reading."""
        with contextlib.suppress(Exception):  # whatever state it is in: it is given up
            self._response.raw.shutdown()


class Transport:
    """Requests with these credentials. Threads may share it."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        insecure: bool = False,
        connect_timeout_s: float = 20,
        read_timeout_s: float = 60,
    ) -> None:
        self._credentials = credentials
        self._timeouts = (connect_timeout_s, read_timeout_s)
        self._brief = (connect_timeout_s / 2, read_timeout_s / 4)  # for what one can do without
        self._insecure = insecure
        self._local = threading.local()
        if insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def size(self, url: str, *, known: bool) -> int | None:
        """Of the file at `url`; None where the server does not say. known: as for `open`.

        Raises PassingError where it cannot be reached.
        """
        try:
            with self._ask("HEAD", url, {}, known, self._brief) as response:
                return _length(response) if response.status_code == 200 and not _is_page(response) else None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise PassingError(_dropped(error)) from None

    def open(self, url: str, start: int, *, known: bool) -> Body:
        """The file at `url` from byte `start` on, or from another one on, where the server will.

        known: the server is one that the credentials are for. Raises PassingError, RefusedError,
        OutOfRangeError.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            response = self._ask("GET", url, headers, known, self._timeouts)
        except requests.exceptions.SSLError as error:
            if _is_certificate(error):
                raise RefusedError(
                    "its TLS certificate cannot be verified; mend this machine's certificates or clock"
                    " (--insecure goes without)",
                    for_all=True,
                ) from None
            raise PassingError(_dropped(error)) from None
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            raise PassingError(_dropped(error)) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise RefusedError(f"cannot be asked ({type(error).__name__})") from None
        try:
            return self._judged(response, start, known)
        except BaseException:
            response.close()
            raise

    def _ask(
        self, method: str, url: str, headers: dict[str, str], known: bool, timeouts: tuple[float, float]
    ) -> requests.Response:
        who = self._credentials
        login = None
        if known and who.user is not None and who.password is not None:
            # requests makes Latin-1 of both: this way UTF-8 is sent (RFC 7617).
            login = (who.user.encode().decode("latin-1"), who.password.encode().decode("latin-1"))
        # What is stored is what its MD5 is of: nothing is to be packed for the way.
        return self._session().request(
            method,
            url,
            headers={"Accept-Encoding": "identity", **headers},
            auth=login,
            timeout=timeouts,
            verify=False if self._insecure else None,
            stream=True,
            allow_redirects=True,
        )

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.headers["User-Agent"] = f"voxshard/{version()}"
            session.mount("http://", HTTPAdapter(pool_maxsize=1))
            session.mount("https://", HTTPAdapter(pool_maxsize=1))
            self._local.session = session
        return session

    def _judged(self, response: requests.Response, start: int, known: bool) -> Body:
        status = response.status_code
        said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        size = int(said["size"]) if said and said["size"] != "*" else None
        if status == 416 and start:
            raise OutOfRangeError(size)
        if status in (200, 206) and _is_page(response):
            raise RefusedError(f"answers with a page, not the file; {self._key_advice(known)}")
        if status == 200:
            return Body(response, 0, _length(response))
        if status == 206 and said and said["first"] is not None:
            return Body(response, int(said["first"]), size)
        if status in _PASSING:
            raise PassingError(f"{status} {response.reason}", _retry_after(response))
        if status == 401:
            raise RefusedError(f"401: {self._login_advice(known)}", for_all=True)
        if status == 403:
            raise RefusedError(f"403: access refused; {self._key_advice(known)}")
        if status in (404, 410):
            raise RefusedError(f"{status}: it has no such file", missing=True)
        raise RefusedError(f"{status} {response.reason}")

    def _login_advice(self, known: bool) -> str:
        if known and self._credentials.options:
            return f"does not accept {self._credentials.options}; check what the registration sent"
        return "asks who you are; give --user and --password, or --key"

    def _key_advice(self, known: bool) -> str:
        if known and self._credentials.key is not None:
            return "has --key expired, or been mistyped? Register again for a new one"
        if known and self._credentials.user is not None:
            return "are --user and --password for this server?"
        return "does it need --user and --password, or --key?"


def _length(response: requests.Response) -> int | None:
    text = response.headers.get("Content-Length", "")
    return int(text) if text.isascii() and text.isdigit() else None


def _is_page(response: requests.Response) -> bool:
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind in ("text/html", "application/xhtml+xml", "application/json", "application/problem+json")


def _retry_after(response: requests.Response) -> float | None:
    text = response.headers.get("Retry-After", "").strip()
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() else None


def _is_certificate(error: BaseException) -> bool:
    """Whether a certificate was not accepted, rather than a connection broken."""
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(error))


def _dropped(error: BaseException) -> str:
    """In a word or two; the texts of these errors hold URLs."""
    innermost = None
    for innermost in _chain(error):
        if isinstance(innermost, urllib3.exceptions.NameResolutionError):
            return "its address is not known (no network, or a mistyped name?)"
        if isinstance(innermost, (urllib3.exceptions.TimeoutError, TimeoutError, requests.Timeout)):
            return "timed out"
        if isinstance(innermost, OSError) and innermost.strerror:
            return innermost.strerror.lower()
        if isinstance(innermost, urllib3.exceptions.IncompleteRead):
            return "the connection ended early"
    return f"the connection broke ({type(innermost).__name__})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """`error` and what it was made from, outermost first."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        links = [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
        waiting += [link for link in links if isinstance(link, BaseException)]
