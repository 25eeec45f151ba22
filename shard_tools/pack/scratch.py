"""A folder for shards under construction, which also keeps two packs of one dataset on a disk apart.

Parts of one pack work at the same time: each looks at its own folders and at those of whole packs.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator

from shard_tools import storage
from shard_tools.errors import UserError
from shard_tools.pack.parts import Part
from shard_tools.storage import Folder
from shard_tools.storage.errors import explain

_PREFIX = ".packing-"
_OF = "-of-"  # in the names of parts' folders alone


@contextlib.contextmanager
def scratch_folder(site: Folder, names: Iterable[str], part: Part | None = None) -> Iterator[str]:
    """A new folder for files that will be published at `site`, removed on leaving.

    On a disk it lies below `site`, so that publishing is a rename; else in the temporary directory (TMPDIR).

    names: what lies at `site`. What a killed run left there is removed; UserError when a
    live one is still at work, other parts apart if this is for a `part`. S3 has no such lock:
    there, two at once publish the same bytes, or `pack_claim` keeps them apart.
    """
    path = storage.local_path(site.url)
    prefix = _PREFIX if part is None else f"{_PREFIX}{part.index}{_OF}{part.count}-"
    try:
        if path is None:
            folder = tempfile.mkdtemp(prefix="voxshard-")
        else:
            names = list(names)
            _remove_folders(path, [n for n in names if n.startswith(prefix) or _OF not in n])
            if part is None:
                _remove_files(path, names)
            os.makedirs(path, exist_ok=True)
            folder = tempfile.mkdtemp(prefix=prefix, dir=path)
    except OSError as error:
        raise storage.StorageError(explain(error, site.url)) from error
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        lock = os.open(folder, os.O_RDONLY)
        stack.callback(os.close, lock)
        with contextlib.suppress(OSError):  # some network file systems have no locks
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder


def sweep(site: Folder, names: Iterable[str]) -> None:
    """Remove what killed runs left among `names` at `site`; UserError when a live one is still at work."""
    path = storage.local_path(site.url)
    if path is None:
        return
    names = list(names)
    try:
        _remove_folders(path, names)
        _remove_files(path, names)
    except OSError as error:
        raise storage.StorageError(explain(error, site.url)) from error


def _remove_folders(path: str, names: Iterable[str]) -> None:
    """Remove killed runs' scratch folders, whose locks went with them."""
    for name in names:
        left = os.path.join(path, name)
        if not name.startswith(_PREFIX):
            continue
        try:
            lock = os.open(left, os.O_RDONLY)
        except FileNotFoundError:  # its owner has just ended
            continue
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


def _remove_files(path: str, names: Iterable[str]) -> None:
    """Remove files that killed runs had half written."""
    for name in names:
        if name.startswith(".") and name.endswith(".part"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(path, name))
