"""What need not be done again, and why."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from shard_tools.dataprep.archive_lists import Listed, Lists
from shard_tools.dataprep.archive_places import is_archive, place_of
from shard_tools.dataprep.files import md5_of
from shard_tools.dataprep.finished import Finished


class Done:
    """What of `lists` is complete below `save_path`. Threads may share it.

    reading: called now and then while a file is read; what it raises ends that.
    """

    def __init__(
        self,
        save_path: Path,
        lists: Lists,
        finished: Finished,
        reading: Callable[[int], object] = lambda amount: None,
    ) -> None:
        self._save_path = save_path
        self._lists = lists
        self._finished = finished
        self._reading = reading
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._wrong: set[str] = set()

    def why_download(self, item: Listed) -> str | None:
        """Why it need not be downloaded; None: it must be."""
        if self.is_right(item.name, item.md5):
            return "is there, MD5 right"
        archive = self._lists.joined_from(item)
        name, md5 = (archive.name, archive.md5) if archive is not None else (item.name, item.md5)
        if is_archive(name) and self._finished.has_folder(place_of(name).folder, md5):
            return f"was extracted to {place_of(name).folder}"
        if archive is not None and self.is_right(name, md5):
            return f"was joined to {name}"
        return None

    def is_right(self, name: str, md5: str) -> bool:
        """Whether the file is there with this MD5; it is read unless finished.txt knows it as it is."""
        with self._locks[name]:  # parts of one archive ask for it at the same time
            path = self._save_path / name
            if name in self._wrong or not path.is_file():
                return False
            if self._finished.has_file(name, md5):
                return True
            if md5_of(path, report=self._reading) != md5:
                self._wrong.add(name)
                return False
            self._finished.add_file(name, md5)
            return True

    def wrong(self) -> list[str]:
        """Names of files that are there and have been found not to be right."""
        return sorted(self._wrong)
