"""A folder for shards under construction, which also keeps two packs of one dataset on a disk apart."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.storage_errors import explain

_PREFIX = ".packing-"


@contextlib.contextmanager
def scratch_folder(url: str, names: Iterable[str]) -> Iterator[str]:
    """A new folder for files that will be published at `url`, removed on leaving.

    On a disk it lies below `url`, so that publishing is a rename; else in the temporary directory (TMPDIR).

    names: what lies at `url`. What a killed run left there is removed; UserError when a
    live one is still at work. S3 has no such lock: there, two packs at once publish the
    same bytes when they have the same inputs, and the later one wins when they have not.
    """
    path = storage.local_path(url)
    try:
        if path is None:
            folder = tempfile.mkdtemp(prefix="voxshard-")
        else:
            _clean(path, names)
            os.makedirs(path, exist_ok=True)
            folder = tempfile.mkdtemp(prefix=_PREFIX, dir=path)
    except OSError as error:
        raise storage.StorageError(explain(error, url)) from error
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        lock = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, lock)
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder


def _clean(path: str, names: Iterable[str]) -> None:
    """Remove what a killed run left: its scratch folder, whose lock went with it, and half-written files."""
    for name in names:
        left = os.path.join(path, name)
        if name.startswith(_PREFIX):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"{path}: another make-shards pack is writing there; wait until it ends"
                ) from None
            except OSError:
                continue
            finally:
                os.close(lock)
            shutil.rmtree(left, ignore_errors=True)
    for name in names:
        if name.startswith(".") and name.endswith(".part"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(path, name))
