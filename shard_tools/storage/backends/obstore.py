"""Objects of S3, and of Google's and Microsoft's stores, read by obstore (Rust's object_store).

A request costs a tenth of the time that it costs with s3fs. What is written, removed or uploaded goes through
fsspec. Retrying is ours alone; obstore itself refuses answers that are not of the range asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from shard_tools.errors import UserError
from shard_tools.storage import etags
from shard_tools.storage.backends import obstore_clients
from shard_tools.storage.backends.contract import Upload
from shard_tools.storage.backends.fsspec_errors import needs_others
from shard_tools.storage.backends.obstore_clients import Client
from shard_tools.storage.backends.obstore_errors import AnswerError, judge, translated
from shard_tools.storage.errors import ShortError, StorageError, Verdict, WrongAnswerError, brief

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ObstorePlace:
    """An object, or what passes for a folder, at a URL. Its verbs are those of `contract.Place`."""

    url: str
    client: Client
    key: str

    moves: ClassVar[bool] = False
    at_once: ClassVar[int] = 384  # at 30 ms an answer, 12,800 a second
    lets_signals_in: ClassVar[bool] = False

    def judge(self, error: BaseException) -> Verdict:
        if not isinstance(error, AnswerError) and needs_others(error):  # of what was written
            obstore_clients.forget(self.client)
            verdict: Verdict = self._by_fsspec().judge(error)
            return verdict
        return judge(error, self.url)

    def check(self) -> None:
        try:
            self._head()
        except FileNotFoundError:
            if not self._holds_something():
                raise

    def size(self) -> int:
        return int(self._meta()["size"])

    def modified(self) -> float:
        """S3 gives whole seconds."""
        return float(self._meta()["last_modified"].timestamp())

    def read(self, start: int | None, end: int | None) -> bytes:
        from obstore import get

        if end is not None and end <= (start or 0):
            self._meta()  # HTTP has no empty range
            return b""
        options: Any = {}
        if end is not None:
            options["range"] = (start or 0, end)
        elif start:
            options["range"] = {"offset": start}
        try:
            return bytes(get(self.client.store, self.key, options=options).bytes())
        except Exception as error:
            found = self._seen(error)
            if options and isinstance(found, AnswerError) and found.status == 416:
                return b""  # as a file that ends before `start`, or an empty one
            raise found from error

    def read_exactly(self, start: int, end: int, size: int) -> memoryview:
        from obstore import get

        url = self.url
        tag = etags.known(url)
        options: Any = {"range": (start, end)}
        if tag is not None:
            options["if_match"] = tag
        try:
            answer = get(self.client.store, self.key, options=options)
            meta = answer.meta
            etags.require(url, meta["e_tag"])
            if meta["size"] < end:
                raise _short(url, meta["size"], size)
            if meta["size"] != size:
                raise StorageError(
                    f"{url}: has {meta['size']} bytes, the manifest says {size}: it was packed anew"
                )
            if answer.range != (start, end):
                raise WrongAnswerError(f"bytes {answer.range} came when {(start, end)} were asked for")
            data = memoryview(answer.bytes())
        except (StorageError, WrongAnswerError):
            raise
        except Exception as error:
            found = self._seen(error)
            if isinstance(found, AnswerError) and found.status == 416:
                raise _short(url, start, size) from error
            if isinstance(found, AnswerError) and found.status == 412:
                raise etags.replaced(url) from error
            raise found from error
        if len(data) != end - start:
            raise WrongAnswerError(f"{len(data)} of {end - start} bytes came")
        return data

    def names(self) -> list[str]:
        from obstore import list_with_delimiter

        try:
            found: Any = list_with_delimiter(self.client.store, self.key or None)
        except Exception as error:
            if _is_odd_key(error):
                names: list[str] = self._by_fsspec().names()
                return names
            raise self._seen(error) from error
        paths = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        # A "folder marker", an object whose key is the prefix itself, is none of its content.
        return list({path.rsplit("/", 1)[-1] for path in paths if path != self.key})

    def write(self, data: bytes) -> None:
        self._by_fsspec().write(data)

    def take(self, local_file: str) -> None:
        self._by_fsspec().take(local_file)

    def upload(self) -> Upload | None:
        upload: Upload | None = self._by_fsspec().upload()
        return upload

    def remove(self) -> None:
        self._by_fsspec().remove()

    def remove_drafts(self, ours: Callable[[str], bool]) -> list[str]:
        names: list[str] = self._by_fsspec().remove_drafts(ours)
        return names

    def _by_fsspec(self) -> Any:
        from shard_tools.storage.backends.fsspec import FsspecPlace

        return FsspecPlace(self.url)

    def _meta(self) -> Any:
        try:
            return self._head()
        except FileNotFoundError:
            try:  # an answer to HEAD has no words for a bucket that is missing
                self._holds_something()
            except AnswerError as error:
                if error.response["Error"]["Code"] == "NoSuchBucket":
                    raise
            raise

    def _head(self) -> Any:
        from obstore import head

        try:
            return head(self.client.store, self.key)
        except Exception as error:
            raise self._seen(error) from error

    def _holds_something(self) -> bool:
        """Whether any key begins with this one and a slash."""
        from obstore import list as list_objects

        try:
            pages = list_objects(self.client.store, self.key or None, chunk_size=1)
            return any(len(page) > 0 for page in pages)
        except Exception as error:
            if _is_odd_key(error):
                return True
            raise self._seen(error) from error

    def _seen(self, error: Exception) -> BaseException:
        """The error in terms that can be judged. Refused credentials are looked up anew next time."""
        credentials = self.client.credentials
        if type(error).__name__ == "UnauthenticatedError" and credentials and credentials.failure:
            return credentials.failure
        found = translated(error)
        if needs_others(found):
            obstore_clients.forget(self.client)
        return found


def place_of(url: str) -> ObstorePlace | None:
    """The place at `url` where obstore may and can read it, else None: fsspec's, with its errors, must do.

    Raises UserError for settings that neither can use.
    """
    try:
        found = obstore_clients.client_of(url)
    except UserError:
        raise
    except Exception as error:  # most often no credentials
        logger.debug("%s: no client of obstore's: %s", url, brief(error))
        return None
    return None if found is None else ObstorePlace(url, *found)


def _is_odd_key(error: Exception) -> bool:
    """Whether a listing holds a key that obstore cannot name, such as a//b, for which it fails as a whole."""
    return type(error).__name__ == "InvalidPathError"


def _short(url: str, found: int, size: int) -> ShortError:
    return ShortError(
        f"{url}: ends at byte {found}, the manifest says {size}: it was cut short or packed anew", size=found
    )
