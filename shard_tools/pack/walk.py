"""Every audio file below a folder; what cannot be listed is named, never taken for empty."""

from __future__ import annotations

import os
from functools import partial

from shard_tools.dataset.keys import AUDIO_EXTENSIONS
from shard_tools.storage.errors import explain
from shard_tools.storage.retries import with_retries

_SYSTEMS_OWN = "lost+found"  # at the root of a disk; only its owner, the system, may list it


def audio_files(root: str, extensions: tuple[str, ...] = AUDIO_EXTENSIONS) -> tuple[list[str], list[str]]:
    """All .wav and .flac below `root`: (paths relative to it with "/", sorted; problems, one line each).

    extensions: of other files, in lower case with their dots; capitals in names do not matter.
    Links to folders are followed; hidden files and folders are not looked at. A problem is a folder that
    cannot be listed, something that cannot be looked at, or a link that leads nowhere: whole speakers
    may hide behind each of them.
    """
    paths: list[str] = []
    problems: list[str] = []
    visited: set[tuple[int, int]] = set()
    waiting = [root]
    before = len(os.path.join(root, ""))  # of a path, what is not relative to `root`
    systems_own = os.path.join(root, _SYSTEMS_OWN)
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in visited:  # a link that leads back
                continue
            visited.add((status.st_dev, status.st_ino))
            folders, files, broken = with_retries(partial(_look, folder, extensions), folder)
        except OSError as error:
            problems.append(explain(error, folder))
            continue
        problems += broken
        # The last is the next: of several ways to one folder, the first in the order of names counts.
        waiting += sorted((path for path in folders if path != systems_own), reverse=True)
        paths += [path[before:].replace(os.sep, "/") for path in files]
    return sorted(paths), sorted(problems)


def _look(folder: str, extensions: tuple[str, ...]) -> tuple[list[str], list[str], list[str]]:
    """(folders, audio files, problems) directly in `folder`."""
    folders: list[str] = []
    files: list[str] = []
    problems: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError as error:
                problems.append(explain(error, entry.path))
                continue
            if is_folder:
                folders.append(entry.path)
            elif entry.name.lower().endswith(extensions):
                files.append(entry.path)
            elif entry.is_symlink() and not os.path.exists(entry.path):
                problems.append(f"{entry.path}: a link that leads nowhere; mend it or remove it")
    return folders, files, problems
