"""The folder of a shard cache: which files lie there, who may bring one, and what makes room.

    .lock              taken for every look or change below, for milliseconds; its times of access and of
                       modification are when room was last sought in vain for a hold and for a prefetch
    SHA256.shard       a whole shard; shared lock: held; its time of access is its last use
    SHA256-SIZE.part   a download, of which SIZE bytes of the capacity are taken; exclusive lock: it is alive
    SHA256.wanted      empty; shared lock: a process has announced that it will need this shard

Any number of processes work on it with no server: locks vanish with the process
that held them, and what it left is then recognised and removed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import time
from collections.abc import Iterator

from shard_tools.cache.answers import Busy, Claim, Full, Later, Present
from shard_tools.cache.eviction import choose, look, open_if_there, unlink
from shard_tools.cache.locks import EXCLUSIVE, SHARED, LockFile
from shard_tools.cache.shard import CachedShard, CacheError, is_sound, seal
from shard_tools.read.source import most_open_files

# Looking for room costs some 20 µs a shard, and every process of a node may be waiting for it. So one
# look in vain counts for all, until somebody lets go of something or, since a killed process does
# that silently, for so long.
_HOLD_LOOKS_AGAIN_S, _PREFETCH_LOOKS_AGAIN_S = 0.5, 2.0
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class CacheFolder:
    """The files of one cache folder. All methods may be called by any thread of any process at once.

    option: that names the folder, for messages. Raises CacheError where the folder cannot be used at all.
    """

    def __init__(self, folder: str, capacity: int, wait: float, option: str = "data.cache.folder") -> None:
        self.folder = folder
        self.capacity = capacity
        self.option = option
        self._wait = wait

    def path(self, shard: CachedShard) -> str:
        """Where the whole shard lies when it is there."""
        return os.path.join(self.folder, f"{shard.sha256}.shard")

    def admit(
        self, shard: CachedShard, *, ahead: bool, insist: bool = False
    ) -> Present | Claim | Busy | Full | Later:
        """Hold the shard, or claim its download and make room for it.

        ahead: it is not needed yet, so what others have announced is not removed for it.
        insist: look for room even if somebody has just done so in vain.
        """
        part = os.path.join(self.folder, f"{shard.sha256}-{shard.size}.part")
        with self._locked() as lock:
            present = self._open_whole(shard)
            if present is not None:
                return Present(present)
            busy = open_if_there(part, os.O_RDWR)
            if busy is not None:
                with contextlib.closing(busy):
                    if not busy.lock(EXCLUSIVE):
                        status = os.fstat(busy.fd)
                        return Busy((status.st_ino, status.st_size))
                    os.unlink(part)  # its process has died
            if not insist and _sought_in_vain(lock, ahead):
                return Later()
            full = self._make_room(shard, ahead)
            if full is not None:
                _note_in_vain(lock, ahead)
                return full
            file = LockFile(part, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            file.lock(EXCLUSIVE)
            return Claim(file)

    def publish(self, claim: Claim, shard: CachedShard) -> LockFile:
        """Make a complete download visible; from then on its file holds the shard."""
        with self._locked():
            os.utime(claim.file.fd, ns=(time.time_ns(), seal(shard)))  # after the last write
            os.replace(claim.file.path, self.path(shard))
            claim.file.lock(SHARED)
            return claim.file

    def abandon(self, claim: Claim) -> None:
        """Remove a download that will not be completed."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(claim.file.path)
        self.let_go(claim.file)

    def let_go(self, file: LockFile) -> None:
        """Close what held a shard, announced it or was to become it: there may be room now."""
        file.close()
        with contextlib.suppress(OSError):  # then others find out a little later
            os.utime(os.path.join(self.folder, ".lock"), ns=(0, 0))

    def discard(self, file: LockFile, shard: CachedShard) -> None:
        """Remove a held file that is not the shard; whoever else holds it keeps its bytes."""
        with self._locked(), contextlib.suppress(FileNotFoundError):
            if os.stat(self.path(shard)).st_ino == os.fstat(file.fd).st_ino:
                os.unlink(self.path(shard))
        self.let_go(file)

    def touch(self, file: LockFile) -> None:
        """Note that a held shard was used just now."""
        with contextlib.suppress(OSError):  # another user's file, say: it then looks older than it is
            os.utime(file.fd, ns=(time.time_ns(), os.fstat(file.fd).st_mtime_ns))

    def holds(self, file: LockFile, shard: CachedShard) -> bool:
        """Whether a held file is still the one in the folder, and unchanged."""
        try:
            found = os.stat(self.path(shard))
        except OSError:
            return False
        return found.st_ino == os.fstat(file.fd).st_ino and is_sound(found, shard)

    def want(self, shard: CachedShard) -> LockFile:
        """Announce that this process will need the shard, until the file returned is let go of."""
        with self._locked():
            mark = LockFile(os.path.join(self.folder, f"{shard.sha256}.wanted"), os.O_RDWR | os.O_CREAT)
            mark.lock(SHARED)
            return mark

    def clean(self) -> None:
        """Remove what processes left that have died."""
        with self._locked():
            look(self.folder)

    def evict(self, needed: int, *, ahead: bool) -> int:
        """Remove `needed` bytes of shards, or as many as may be removed; returns the bytes removed."""
        with self._locked():
            chosen, _ = choose(look(self.folder), needed, ahead)
            return unlink(chosen)

    def free_on_disk(self) -> int:
        """Bytes that may still be written to the folder's disk."""
        status = os.statvfs(self.folder)
        # A tmpfs without a limit reports no blocks at all.
        return status.f_bavail * status.f_frsize if status.f_blocks else 2**63

    @contextlib.contextmanager
    def _locked(self) -> Iterator[LockFile]:
        """The folder's lock. It is polled, so that a process which was stopped inside cannot hang others."""
        try:
            lock = self._open_lock()
        except OSError as error:
            self._few_files(error)
            raise CacheError(
                f"{self.folder}: cannot be used as a cache folder ({error.strerror}); give {self.option}"
                " a folder on this machine's own disk that you may write to"
            ) from error
        with contextlib.closing(lock):
            limit = time.monotonic() + self._wait
            try:
                while not lock.lock(EXCLUSIVE):
                    if time.monotonic() > limit:
                        raise CacheError(
                            f"{self.folder}: another process has kept its .lock for {self._wait:.0f} s;"
                            f" is one stopped? End it, or use another {self.option}"
                        )
                    time.sleep(random.uniform(0.0005, 0.005))
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                raise CacheError(
                    f"{self.folder}: its file system has no locks (flock); give {self.option} a folder on"
                    " this machine's own disk"
                ) from error
            try:
                yield lock
            except OSError as error:
                self._few_files(error)
                where = f" ({error.filename})" if error.filename else ""
                raise CacheError(
                    f"{self.folder}: {error.strerror}{where}; check the folder's disk, owner and"
                    f" mode, or use another {self.option}"
                ) from error

    def _few_files(self, error: OSError) -> None:
        """Raise CacheError where it is the want of open files."""
        if error.errno == errno.EMFILE:
            raise CacheError(
                f"{self.folder}: {error.strerror}: this process may have {most_open_files()}, and needs one"
                " for each cached shard in use; raise the limit (ulimit -n), or lower data.windows.shards"
            ) from error

    def _open_lock(self) -> LockFile:
        path = os.path.join(self.folder, ".lock")
        try:
            return LockFile(path, os.O_RDWR)
        except FileNotFoundError:
            os.makedirs(self.folder, exist_ok=True)
            lock = LockFile(path, os.O_RDWR | os.O_CREAT)
            os.utime(lock.fd, ns=(0, 0))  # room was never sought
            return lock

    def _open_whole(self, shard: CachedShard) -> LockFile | None:
        """The shard's file, held; None when it is not there. A file that someone changed is removed."""
        file = open_if_there(self.path(shard), os.O_RDONLY)
        if file is None:
            return None
        if is_sound(os.fstat(file.fd), shard) and file.lock(SHARED):
            self.touch(file)
            return file
        file.close()
        os.unlink(self.path(shard))
        return None

    def _make_room(self, shard: CachedShard, ahead: bool) -> Full | None:
        """Remove what nobody holds, least recently used first, until the shard fits; else change nothing."""
        contents = look(self.folder)
        free = self.free_on_disk()
        used = contents.arriving + sum(size for _, _, size in contents.shards)
        too_much = used + shard.size - self.capacity
        too_little = shard.size + contents.arriving - contents.arrived - free
        needed = max(too_much, too_little)
        if needed <= 0:
            return None
        chosen, held = choose(contents, needed, ahead)
        if sum(size for _, size in chosen) >= needed:
            unlink(chosen)
            return None
        for file, _ in chosen:
            file.close()
        return Full(
            held=held,
            arriving=contents.arriving,
            free=free,
            disk=too_little > too_much,
            hopeless=held == 0 and contents.arriving == 0,
        )


def _sought_in_vain(lock: LockFile, ahead: bool) -> bool:
    """Whether room was sought a moment ago, and there was none for the likes of this."""
    status, now = os.fstat(lock.fd), time.time()
    if ahead:
        return abs(now - status.st_mtime) < _PREFETCH_LOOKS_AGAIN_S
    return abs(now - status.st_atime) < _HOLD_LOOKS_AGAIN_S


def _note_in_vain(lock: LockFile, ahead: bool) -> None:
    now = time.time_ns()
    with contextlib.suppress(PermissionError):
        os.utime(lock.fd, ns=(os.fstat(lock.fd).st_atime_ns if ahead else now, now))
