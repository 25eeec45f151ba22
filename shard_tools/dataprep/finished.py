"""What is done, in lists/finished.txt below the save path: lines `NAME MD5 SIZE MTIME_NS`.

The last line of a name counts. The first two fields are those of fileparts.txt. With the other two a file
that is as it was when its MD5 was found right need not be read again. A folder that an archive was extracted
to has a line too: `FOLDER/ MD5-of-the-archive - -`. The file lies with the data, since it is about them:
lists may be read-only and serve several save paths.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from shard_tools.errors import UserError


class Finished:
    """The record of a save path. Threads may share it; another process's lines are seen when it is opened."""

    def __init__(self, save_path: Path) -> None:
        self._folder = save_path
        self.path = save_path / "lists" / "finished.txt"
        self._writing = threading.Lock()
        self._rows: dict[str, tuple[str, str, str]] = {}
        try:
            text = self.path.read_bytes().decode("utf-8-sig", "replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read ({error.strerror})") from error
        for line in text.splitlines():
            fields = line.rsplit(maxsplit=3)
            # Others (name and MD5 alone, a line that a crash cut) only mean that a file is read once more.
            if len(fields) == 4 and len(fields[1]) == 32:
                self._rows[fields[0]] = (fields[1], fields[2], fields[3])

    def names(self) -> list[str]:
        """Of files, not of folders."""
        return [name for name in self._rows if not name.endswith("/")]

    def has_file(self, name: str, md5: str) -> bool:
        """Whether the file has been found to have this MD5, and has not changed since."""
        try:
            status = os.stat(self._folder / name)
        except OSError:
            return False
        return self._rows.get(name) == (md5, str(status.st_size), str(status.st_mtime_ns))

    def has_folder(self, folder: str, md5: str) -> bool:
        """Whether `folder` ("a/b", below the save path) was extracted whole from the archive of this MD5."""
        return self._rows.get(f"{folder}/") == (md5, "-", "-") and (self._folder / folder).is_dir()

    def add_file(self, name: str, md5: str) -> None:
        status = os.stat(self._folder / name)
        self._add(name, (md5, str(status.st_size), str(status.st_mtime_ns)))

    def add_folder(self, folder: str, md5: str) -> None:
        self._add(f"{folder}/", (md5, "-", "-"))

    def _add(self, name: str, row: tuple[str, str, str]) -> None:
        with self._writing:
            self._rows[name] = row
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with open(self.path, "ab+") as file:
                    end = file.seek(0, os.SEEK_END)
                    file.seek(max(end - 1, 0))
                    torn = end > 0 and file.read(1) != b"\n"
                    file.write(f"{chr(10) * torn}{name} {' '.join(row)}\n".encode())
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error
